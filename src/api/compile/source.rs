//! TrustSources.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use countersign_verify::notary::{Pin, PinnedKeys, Pins};
use countersign_verify::outcome::Denial;
use countersign_verify::tuf::InitialRoot;
use jiff::Timestamp;
use url::Url;

use super::policy::Sources;
use super::{
    Connection, Credentials, Problem, SOURCE, Source, SourceKind, Wrong, certificates, check_count,
    check_names, connection, duplicates, name_patterns, tuf, wrong,
};
use crate::api::{Document, Freshness, NotarySource, PinSpec, Resources, TrustSourceSpec, bounds};
use crate::http::is_loopback_literal;

/// All sources by name, each compiled or the denial that its users get.
pub(super) fn compile_all(
    resources: &Resources,
    now: Timestamp,
    problems: &mut Vec<Problem>,
) -> Sources {
    let duplicates = duplicates(resources.sources.iter().map(|document| document.name.as_str()));
    let mut sources = Sources::new();
    for document in &resources.sources {
        let compiled = if duplicates.contains(document.name.as_str()) {
            wrong("metadata.name", "another TrustSource has this name; rename one")
        } else {
            compile(document, resources, now)
        };
        let compiled = compiled.map_err(|wrong| {
            problems.push(wrong.problem(SOURCE, document));
            let field = format!("{SOURCE} \"{}\": {}", document.name, wrong.field);
            Denial::InvalidPolicy { field, reason: wrong.reason }
        });
        sources.insert(document.name.clone(), compiled);
    }
    sources
}

fn compile(
    document: &Document<TrustSourceSpec>,
    resources: &Resources,
    now: Timestamp,
) -> Result<Source, Wrong> {
    let spec = spec(document)?;
    let (kind, connection) = match (&spec.notary, &spec.tuf) {
        (Some(notary), None) => {
            let pins = Arc::new(pins(notary, now)?);
            let (url, connection) = server(spec, notary, resources)?;
            (SourceKind::Notary { url, pins }, connection)
        }
        (None, Some(tuf)) => tuf::source(spec, tuf, resources)?,
        (Some(_), Some(_)) => {
            return wrong("spec", "notary and tuf exclude each other; remove one");
        }
        (None, None) => return wrong("spec", "one of notary and tuf is required"),
    };
    let freshness = spec.freshness.unwrap_or_default();
    check_freshness(freshness)?;
    Ok(Source {
        name: document.name.clone(),
        fingerprint: fingerprint(&document.name, &kind, &connection),
        kind,
        connection,
        refresh_after: Duration::from_secs(freshness.refresh_after_seconds.into()),
        refuse_after: Duration::from_secs(freshness.refuse_after_seconds.into()),
    })
}

/// The server of a Notary source and how to connect to it, whatever its pins are: it may have none
/// yet. Fails where these fields do not compile.
pub fn connect(
    document: &Document<TrustSourceSpec>,
    resources: &Resources,
) -> Result<(Url, Connection), Box<Problem>> {
    let server = spec(document).and_then(|spec| match &spec.notary {
        Some(notary) => server(spec, notary, resources),
        None => wrong("spec.notary", "it is not a Notary source"),
    });
    server.map_err(|wrong| Box::new(wrong.problem(SOURCE, document)))
}

fn spec(document: &Document<TrustSourceSpec>) -> Result<&TrustSourceSpec, Wrong> {
    match &document.spec {
        Ok(spec) => Ok(spec),
        Err(unreadable) => wrong(&unreadable.field, &unreadable.reason),
    }
}

fn server(
    spec: &TrustSourceSpec,
    notary: &NotarySource,
    resources: &Resources,
) -> Result<(Url, Connection), Wrong> {
    let url = url("spec.notary.url", &notary.url)?;
    let connection = connection::compile(spec, &[&url], resources)?;
    Ok((url, connection))
}

/// sha256 over everything that decides what a source's metadata is, and who may have signed it; and
/// over its name, by which versions are remembered: what one source has not seen must not answer
/// for another that has.
fn fingerprint(name: &str, kind: &SourceKind, connection: &Connection) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    // Each part with its length, so that no two lists of parts read alike.
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    };
    add(name.as_bytes());
    match kind {
        SourceKind::Notary { url, pins } => {
            add(b"notary");
            add(url.as_str().as_bytes());
            for pin in &pins.0 {
                add(pin.anchor().as_bytes());
                pin.repositories.iter().for_each(|pattern| add(pattern.as_str().as_bytes()));
                add(b"");
            }
        }
        SourceKind::Tuf { mirrors, initial, max_delegations } => {
            add(b"tuf");
            mirrors.iter().for_each(|url| add(url.as_str().as_bytes()));
            add(b"");
            add(initial.as_ref().map(InitialRoot::anchor).unwrap_or_default().as_bytes());
            add(&max_delegations.to_le_bytes());
        }
    }
    add(connection.ca_pem.as_deref().unwrap_or_default());
    for credentials in &connection.credentials {
        let Credentials { username, password, host } = credentials;
        [username, password, host].iter().for_each(|part| add(part.as_bytes()));
    }
    add(b"");
    connection.token_hosts.iter().for_each(|host| add(host.as_bytes()));
    if let Some(why) = &connection.unread {
        add(b"");
        add(why.as_bytes());
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

/// The https URL of a server, or of a folder on it.
pub(super) fn url(field: &str, text: &str) -> Result<Url, Wrong> {
    if text.len() > bounds::URL_CHARS {
        return wrong(field, format!("it is longer than {} bytes", bounds::URL_CHARS));
    }
    let Ok(url) = Url::parse(text) else {
        return wrong(field, "it is not a URL, as https://notary.example.com");
    };
    match url.scheme() {
        "https" => {}
        "http" if url.host().is_some_and(|host| is_loopback_literal(&host)) => {}
        "http" => {
            return wrong(field, "plain http is for loopback hosts only; write https://");
        }
        _ => return wrong(field, "it has to begin with https://"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(field, "it holds a user or password; use connection.credentialsSecretRef");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong(field, "it has a query or fragment; write only https://host[:port][/path]");
    }
    Ok(url)
}

fn check_freshness(freshness: Freshness) -> Result<(), Wrong> {
    let Freshness { refresh_after_seconds: refresh, refuse_after_seconds: refuse } = freshness;
    for (field, value, most) in [
        ("spec.freshness.refreshAfterSeconds", refresh, bounds::REFRESH_SECONDS),
        ("spec.freshness.refuseAfterSeconds", refuse, bounds::REFUSE_SECONDS),
    ] {
        if value == 0 || value > most {
            return wrong(field, format!("{value} is not within 1 and {most}"));
        }
    }
    if refresh > refuse {
        return wrong(
            "spec.freshness",
            format!(
                "refreshAfterSeconds ({refresh}) must not be greater than refuseAfterSeconds ({refuse})"
            ),
        );
    }
    Ok(())
}

fn pins(spec: &NotarySource, now: Timestamp) -> Result<Pins, Wrong> {
    let field = "spec.notary.pins";
    check_count(field, spec.pins.len(), bounds::PINS)?;
    check_names(field, spec.pins.iter().map(|pin| pin.name.as_str()))?;
    let mut seen = BTreeMap::new();
    let mut pins = Vec::new();
    for pin_spec in &spec.pins {
        let pin = pin(&format!("{field}[name={}]", pin_spec.name), pin_spec, now)?;
        for (index, pattern) in pin.repositories.iter().enumerate() {
            // The most specific pin counts; of two equal ones either could.
            if let Some(other) = seen.insert(pattern.clone(), pin.name.clone()) {
                return wrong(
                    format!("{field}[name={}].repositories[{index}]", pin.name),
                    format!("\"{}\" is in pin \"{other}\" already; remove one", pattern.as_str()),
                );
            }
        }
        pins.push(pin);
    }
    Ok(Pins(pins))
}

fn pin(field: &str, spec: &PinSpec, now: Timestamp) -> Result<Pin, Wrong> {
    let repositories_field = format!("{field}.repositories");
    check_count(&repositories_field, spec.repositories.len(), bounds::PATTERNS)?;
    let repositories = name_patterns(&repositories_field, &spec.repositories)?;
    let keys = match (&spec.public_keys, &spec.certificate_authorities, &spec.root_key_ids) {
        (Some(keys), None, None) => {
            let threshold = threshold(field, spec.threshold, keys.len())?;
            let keys = certificates::public_keys(&format!("{field}.publicKeys"), keys)?;
            PinnedKeys::PublicKeys { keys, threshold }
        }
        (None, Some(authorities), None) => {
            if spec.threshold.is_some() {
                return wrong(
                    format!("{field}.threshold"),
                    "it counts keys and cannot be used with certificateAuthorities; remove it",
                );
            }
            let field = format!("{field}.certificateAuthorities");
            PinnedKeys::CertificateAuthorities(certificates::authorities(&field, authorities, now)?)
        }
        (None, None, Some(ids)) => {
            if let Some(index) = repositories.iter().position(|p| p.literal_name().is_none()) {
                return wrong(
                    format!("{repositories_field}[{index}]"),
                    "a key has another id in each repository, so rootKeyIDs need repositories without *; use publicKeys for patterns",
                );
            }
            let threshold = threshold(field, spec.threshold, ids.len())?;
            check_ids(&format!("{field}.rootKeyIDs"), ids)?;
            PinnedKeys::RootKeyIds { ids: ids.clone(), threshold }
        }
        _ => {
            return wrong(
                field,
                "exactly one of publicKeys, certificateAuthorities and rootKeyIDs is required",
            );
        }
    };
    Ok(Pin { name: spec.name.clone(), repositories, keys })
}

fn threshold(field: &str, threshold: Option<u32>, keys: usize) -> Result<usize, Wrong> {
    let field = format!("{field}.threshold");
    match threshold.map(|threshold| usize::try_from(threshold).unwrap_or(usize::MAX)) {
        None if keys <= 1 => Ok(1),
        None => wrong(field, "it is required with more than one key"),
        Some(0) => wrong(field, "it has to be at least 1"),
        Some(threshold) if threshold > keys => {
            wrong(field, format!("{threshold} can never be met: the number of keys is {keys}"))
        }
        Some(threshold) => Ok(threshold),
    }
}

fn check_ids(field: &str, ids: &[String]) -> Result<(), Wrong> {
    check_count(field, ids.len(), bounds::PIN_KEYS)?;
    let hex =
        |id: &str| id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    for (index, id) in ids.iter().enumerate() {
        if !hex(id) {
            return wrong(
                format!("{field}[{index}]"),
                format!("\"{}\" is not a key id: 64 lower-case hex digits", id.escape_debug()),
            );
        }
        if ids[..index].contains(id) {
            return wrong(format!("{field}[{index}]"), "it is listed twice; one key counts once");
        }
    }
    Ok(())
}
