//! The pieces of distribution's grammar (`distribution/reference`, regexp.go) that references
//! and patterns share.

/// A component of a repository's path:
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
pub(super) fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let [first, .., last] = bytes else {
        return bytes.iter().copied().all(alphanumeric) && !bytes.is_empty();
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|byte| alphanumeric(*byte)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
    })
}

/// A registry's host: a DNS name, an IPv4 address, or an IPv6 address in brackets; then perhaps a
/// port.
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let hex_or_colon = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
                if address.is_empty() || !address.bytes().all(hex_or_colon) {
                    return false;
                }
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Stricter than the grammar, which takes any digits: `host:5000` and `host:05000` would be two
/// names of one registry.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.starts_with('0')
        && text.parse::<u16>().is_ok()
}

/// A tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub(crate) fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && !text.is_empty()
        && !text.starts_with(['.', '-'])
}

/// Whether the first component of a name is a host rather than a path on Docker Hub.
pub(super) fn looks_like_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':'])
}
