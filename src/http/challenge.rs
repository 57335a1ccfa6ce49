//! `WWW-Authenticate` (RFC 9110, section 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One challenge. Names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    params: Vec<(String, String)>,
}

impl Challenge {
    /// The parameter; `None` also where it is given twice, since readers could disagree on it.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let mut values = self.params.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// Every challenge of every header, in order. What cannot be read is passed over: a challenge
/// only ever narrows down which of our own ways to authenticate is tried.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect()
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(rest);
        if name.is_empty() {
            // The end, or not the grammar: without it no telling where the next one begins.
            return found;
        }
        let name = name.to_ascii_lowercase();
        match (after.trim_start_matches([' ', '\t']).strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = parameter_value(value) else {
                    return found;
                };
                challenge.params.push((name, value));
                rest = after;
            }
            (Some(_), None) => return found,
            (None, _) => {
                found.push(Challenge { scheme: name, params: Vec::new() });
                rest = after;
            }
        }
    }
}

/// The leading token (RFC 9110, section 5.6.2) and what follows it.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or quoted string, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(header: &str) -> Challenge {
        parse(header).into_iter().next().expect("a challenge")
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = one(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push",error="invalid_token""#,
        );
        assert_eq!(hub.scheme, "bearer");
        assert_eq!(hub.param("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(hub.param("service"), Some("registry.docker.io"));
        assert_eq!(hub.param("scope"), Some("repository:library/nginx:pull,push"));
        assert_eq!(hub.param("nothing"), None);

        let loose = one("bEaReR   Realm = \"https://a/\\\"t\" ,\t service=plain");
        assert_eq!(loose.param("realm"), Some("https://a/\"t"));
        assert_eq!(loose.param("service"), Some("plain"));
    }

    #[test]
    fn reads_several_challenges_of_one_header() {
        let found = parse(r#"Negotiate, Basic realm="simple, really", Bearer realm="https://a/t""#);
        let schemes: Vec<_> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(found[1].param("realm"), Some("simple, really"));
        assert_eq!(found[2].param("realm"), Some("https://a/t"));
    }

    #[test]
    fn r5_a_parameter_given_twice_is_none() {
        let twice = one(r#"Bearer realm="https://a/", realm="https://evil/""#);
        assert_eq!(twice.param("realm"), None);
    }

    #[test]
    fn garbage_is_passed_over() {
        for garbage in ["", ",,,", "=", "\"", "Bearer realm=\"open", "Bearer realm=\"a\\", "@@"] {
            assert!(parse(garbage).iter().all(|c| c.param("realm").is_none()), "{garbage}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_always_ends(header in "[ -~\t]{0,200}") {
            parse(&header);
        }
    }
}
