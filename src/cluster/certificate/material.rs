//! What the Secret holds, read and written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::plan::{BACKDATED, Leaf, Outline, Span, Step, after};
use crate::server::{Pair, certificates};

/// Every authority that is trusted, in PEM.
pub(super) const CA_CRT: &str = "ca.crt";

/// The key of the authority that signs.
pub(super) const CA_KEY: &str = "ca.key";

/// The serving certificate.
pub(super) const TLS_CRT: &str = "tls.crt";

/// Its key.
pub(super) const TLS_KEY: &str = "tls.key";

/// The Secret's data.
pub(super) type Data = BTreeMap<String, ByteString>;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub(super) struct IssueError(#[from] rcgen::Error);

/// An authority of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    der: CertificateDer<'static>,
    span: Span,
}

/// What can be used of a Secret.
#[derive(Clone, Default)]
pub(super) struct Material {
    authorities: Vec<Authority>,
    /// The authority that signs, and its key.
    signer: Option<(usize, Arc<KeyPair>)>,
    leaf: Option<(Leaf, Arc<Pair>)>,
}

/// Without the keys.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("outline", &self.outline()).finish_non_exhaustive()
    }
}

/// What a Secret holds.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Nothing yet.
    Empty,
    /// All that it should.
    Whole(Material),
    /// Something is missing or wrong; the rest can be used.
    Broken(Material, String),
}

impl Content {
    /// Reads a Secret's data; `place` names the Secret, and `names` are those that the certificate
    /// should have.
    pub(super) fn read(place: &str, data: &Data, names: &BTreeSet<String>) -> Self {
        let all = [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY];
        let bytes = |key: &str| data.get(key).map_or(&[][..], |bytes| bytes.0.as_slice());
        if all.iter().all(|key| bytes(key).is_empty()) {
            return Self::Empty;
        }
        let place = |key: &str| format!("{place}, {key}");
        let mut problems = Vec::new();
        let mut material = Material::default();
        match authorities(&place(CA_CRT), bytes(CA_CRT)) {
            Ok(authorities) => material.authorities = authorities,
            Err(problem) => problems.push(problem),
        }
        match signer(&material.authorities, bytes(CA_KEY)) {
            Ok(signer) => material.signer = Some(signer),
            Err(reason) => problems.push(format!("{}: {reason}", place(CA_KEY))),
        }
        let pair = Pair {
            certificate: bytes(TLS_CRT).to_vec(),
            key: bytes(TLS_KEY).to_vec(),
            certificate_place: place(TLS_CRT),
            key_place: place(TLS_KEY),
        };
        match leaf(&material.authorities, &pair, names) {
            Ok(leaf) => material.leaf = Some((leaf, Arc::new(pair))),
            Err(problem) => problems.push(problem),
        }
        if problems.is_empty() {
            return Self::Whole(material);
        }
        Self::Broken(material, problems.join("; "))
    }
}

impl Material {
    /// What matters for what to do next.
    pub(super) fn outline(&self) -> Outline {
        Outline {
            authorities: self.authorities.iter().map(|authority| authority.span).collect(),
            signer: self.signer.as_ref().map(|(index, _)| *index),
            leaf: self.leaf.as_ref().map(|(leaf, _)| *leaf),
        }
    }

    /// What to serve with.
    pub(super) fn pair(&self) -> Option<Arc<Pair>> {
        self.leaf.as_ref().map(|(_, pair)| Arc::clone(pair))
    }

    /// Every authority that is trusted, in PEM.
    pub(super) fn bundle(&self) -> String {
        self.authorities.iter().map(|authority| pem(&authority.der)).collect()
    }

    /// The authority that signs.
    pub(super) fn signer(&self) -> Option<&CertificateDer<'static>> {
        let (index, _) = self.signer.as_ref()?;
        self.authorities.get(*index).map(|authority| &authority.der)
    }

    /// What the Secret's data become by this step; authorities that have ended go.
    pub(super) fn after(
        &self,
        step: Step,
        names: &BTreeSet<String>,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Data, IssueError> {
        let mut authorities: Vec<_> = self
            .authorities
            .iter()
            .filter(|authority| now < authority.span.ends)
            .cloned()
            .collect();
        let mut signer = self.signer.as_ref().and_then(|(index, key)| {
            Some((self.authorities.get(*index)?.clone(), Arc::clone(key)))
        });
        if matches!(step, Step::Begin | Step::AddAuthority) {
            let (authority, key) = new_authority(lifetime, now)?;
            authorities.push(authority.clone());
            signer = Some((authority, Arc::new(key)));
        }
        let mut pair =
            self.leaf.as_ref().map(|(_, pair)| (pair.certificate.clone(), pair.key.clone()));
        if let (Step::Begin | Step::Sign, Some((authority, key))) = (step, &signer) {
            pair = Some(new_certificate(authority, key, names, lifetime, now)?);
        }
        let bundle: String = authorities.iter().map(|authority| pem(&authority.der)).collect();
        let mut data = Data::from([(CA_CRT.to_owned(), ByteString(bundle.into_bytes()))]);
        if let Some((_, key)) = signer {
            data.insert(CA_KEY.to_owned(), ByteString(key.serialize_pem().into_bytes()));
        }
        if let Some((certificate, key)) = pair {
            data.insert(TLS_CRT.to_owned(), ByteString(certificate));
            data.insert(TLS_KEY.to_owned(), ByteString(key));
        }
        Ok(data)
    }
}

/// Whether this bundle, in PEM, has this authority in it.
pub(super) fn contains(bundle: &str, authority: &CertificateDer<'_>) -> bool {
    certificates(CA_CRT, bundle.as_bytes())
        .is_ok_and(|bundle| bundle.iter().any(|certificate| certificate == authority))
}

fn authorities(place: &str, pem: &[u8]) -> Result<Vec<Authority>, String> {
    let found = certificates(place, pem).map_err(|error| error.to_string())?;
    let read = |der: CertificateDer<'static>| {
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let span = span(&parsed)?;
        parsed.is_ca().then_some(Authority { der, span })
    };
    let authorities: Option<Vec<_>> = found.into_iter().map(read).collect();
    authorities.ok_or_else(|| format!("{place}: a certificate in it is no authority's"))
}

fn signer(authorities: &[Authority], pem: &[u8]) -> Result<(usize, Arc<KeyPair>), String> {
    let key = std::str::from_utf8(pem).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
    // What the parser says of a key is not repeated.
    let key = key.ok_or("no PEM private key")?;
    let is_its = |authority: &Authority| {
        X509Certificate::from_der(&authority.der).is_ok_and(|(_, parsed)| {
            parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
        })
    };
    let index = authorities.iter().position(is_its);
    let index = index.ok_or_else(|| format!("it is no key of an authority in {CA_CRT}"))?;
    Ok((index, Arc::new(key)))
}

fn leaf(authorities: &[Authority], pair: &Pair, names: &BTreeSet<String>) -> Result<Leaf, String> {
    let place = &pair.certificate_place;
    let checked = pair.check().map_err(|error| error.to_string())?;
    let [der, intermediates @ ..] = checked.chain() else {
        return Err(format!("{place}: no certificate"));
    };
    let invalid = |_| format!("{place}: it is no DER certificate");
    let (_, parsed) = X509Certificate::from_der(der).map_err(invalid)?;
    let span = span(&parsed).ok_or_else(|| format!("{place}: its times are out of range"))?;
    let named = parsed.subject_alternative_name().ok().flatten().is_some_and(|found| {
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        found.value.general_names.iter().filter_map(dns).collect::<BTreeSet<_>>() == *names
    });
    let signed = |authority: &Authority| is_signed_by(der, intermediates, span, authority);
    match authorities.iter().position(signed) {
        Some(issuer) => Ok(Leaf { span, issuer, named }),
        None => Err(format!("{place}: no authority in {CA_CRT} has signed it")),
    }
}

/// As a client finds out, at the end of the certificate's life: whether it has ended is a matter
/// of its own.
fn is_signed_by(
    der: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    span: Span,
    authority: &Authority,
) -> bool {
    let mut roots = RootCertStore::empty();
    let seconds = u64::try_from(span.ends.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let algorithms = rustls::crypto::aws_lc_rs::default_provider();
    let algorithms = algorithms.signature_verification_algorithms.all;
    roots.add(authority.der.clone()).is_ok()
        && ParsedCertificate::try_from(der).is_ok_and(|leaf| {
            verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, at, algorithms)
                .is_ok()
        })
}

fn span(certificate: &X509Certificate<'_>) -> Option<Span> {
    let validity = certificate.validity();
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some(Span { begins: time(validity.not_before)?, ends: time(validity.not_after)? })
}

fn new_authority(lifetime: Duration, now: Timestamp) -> Result<(Authority, KeyPair), IssueError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // Each has a name of its own, so that no client takes one for another.
    let name = format!("Countersign webhooks {}", now.as_second());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let span = validity(&mut params, lifetime, now, Timestamp::MAX);
    let der = params.self_signed(&key)?.der().clone();
    Ok((Authority { der, span }, key))
}

/// A certificate that ends no later than its authority, and its key, in PEM.
fn new_certificate(
    authority: &Authority,
    key: &KeyPair,
    names: &BTreeSet<String>,
    lifetime: Duration,
    now: Timestamp,
) -> Result<(Vec<u8>, Vec<u8>), IssueError> {
    let issuer = Issuer::from_ca_cert_der(&authority.der, key)?;
    let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "Countersign");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, lifetime, now, authority.span.ends);
    let certificate = params.signed_by(&leaf_key, &issuer)?;
    Ok((certificate.pem().into_bytes(), leaf_key.serialize_pem().into_bytes()))
}

fn validity(
    params: &mut CertificateParams,
    lifetime: Duration,
    now: Timestamp,
    at_most: Timestamp,
) -> Span {
    let begins = now.saturating_sub(BACKDATED).unwrap_or(now);
    let ends = after(now, lifetime).min(at_most);
    let date = |time: Timestamp| {
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    params.not_before = date(begins);
    params.not_after = date(ends);
    Span { begins, ends }
}

fn pem(der: &CertificateDer<'_>) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der.as_ref()), lines)
}

#[cfg(test)]
mod tests;
