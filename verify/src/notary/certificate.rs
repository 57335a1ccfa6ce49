//! The certificates of root keys: what ties a root to its repository, and to an authority.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::Validity;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;

use super::pin::Pin;
use super::root::Judge;
use crate::limits;
use crate::outcome::{Denial, shortened};

/// Why a root key does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its certificate is past its NotAfter.
    Expired(Timestamp),
    /// Anything else.
    Rule(String),
}

impl Unfit {
    /// The refusal of a root that rests on such a key.
    pub(super) fn denial(&self, now: Timestamp) -> Denial {
        match self {
            Self::Expired(expired) => {
                Denial::Expired { role: "root certificate".to_owned(), expired: *expired, now }
            }
            Self::Rule(reason) => {
                Denial::MalformedMetadata { file: "root".to_owned(), reason: reason.clone() }
            }
        }
    }
}

fn rule<T>(reason: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit::Rule(reason.into()))
}

/// notary-v1 rule 9 for one root key's bundle: one leaf, first, for this repository, by a sound
/// signature algorithm, and valid: for the final root now, for an older one whenever it was used.
/// Returns the leaf's NotAfter.
pub(super) fn check_bundle(
    bundle: &[CertificateDer<'static>],
    judge: Judge<'_>,
    is_final: bool,
) -> Result<Timestamp, Unfit> {
    let Judge { pin, repository, now, .. } = judge;
    let Some((leaf, others)) = bundle.split_first() else {
        return rule("a root key has no certificate");
    };
    let leaf = read(leaf)?;
    if leaf.is_ca() {
        return rule("a root key's first certificate is an authority's, not a leaf");
    }
    for other in others {
        if !read(other)?.is_ca() {
            return rule("a root key has more than one leaf certificate");
        }
    }
    check_name(&leaf, repository, pin)?;
    check_algorithm(&leaf)?;
    let (not_before, not_after) = validity(leaf.validity())?;
    if not_before > not_after {
        return rule("a root certificate's NotBefore is after its NotAfter");
    }
    let ahead = SignedDuration::from_hours(limits::CERTIFICATE_AHEAD_HOURS);
    if not_before.duration_since(now) > ahead {
        return rule(format!("a root certificate is not valid before {not_before}"));
    }
    if is_final && now > not_after {
        return Err(Unfit::Expired(not_after));
    }
    Ok(not_after)
}

fn read<'c>(der: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, Unfit> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => rule("a root key's certificate cannot be read"),
    }
}

/// The CN is the repository, or `prefix/*` where the pin holds the pattern `prefix/**`: metadata
/// never names its repository, so nothing else keeps one's files from being served as another's.
fn check_name(leaf: &X509Certificate<'_>, repository: &str, pin: &Pin) -> Result<(), Unfit> {
    let mut names = leaf.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return rule("a root certificate does not have exactly one CN");
    };
    let Ok(name) = name.as_str() else {
        return rule("a root certificate's CN is not text");
    };
    if name == repository {
        return Ok(());
    }
    if let Some(prefix) = name.strip_suffix("/*") {
        let under = repository.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let pattern = format!("{prefix}/**");
        if under && pin.repositories.iter().any(|allowed| allowed.as_str() == pattern) {
            return Ok(());
        }
    }
    let name = shortened(name);
    rule(format!("its certificate is for {name:?}, not for {repository}"))
}

/// OIDs of ECDSA, RSA PKCS #1 v1.5 and Ed25519 signatures by SHA-2.
const SOUND: [&str; 7] = [
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.3.101.112",
];
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
const SHA2: [&str; 3] =
    ["2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2", "2.16.840.1.101.3.4.2.3"];

fn check_algorithm(leaf: &X509Certificate<'_>) -> Result<(), Unfit> {
    let algorithm = &leaf.signature_algorithm;
    let oid = algorithm.algorithm.to_id_string();
    let sound = match oid.as_str() {
        // Its hash is a parameter, and SHA-1 where there is none.
        RSA_PSS => algorithm.parameters.as_ref().is_some_and(|parameters| {
            RsaSsaPssParams::try_from(parameters)
                .is_ok_and(|pss| SHA2.contains(&pss.hash_algorithm_oid().to_id_string().as_str()))
        }),
        oid => SOUND.contains(&oid),
    };
    if !sound || leaf.tbs_certificate.signature != *algorithm {
        let oid = shortened(&oid);
        return rule(format!("a root certificate is signed by algorithm {oid}, which is too weak"));
    }
    Ok(())
}

fn validity(validity: &Validity) -> Result<(Timestamp, Timestamp), Unfit> {
    let time = |time: &ASN1Time| {
        Timestamp::from_second(time.timestamp())
            .map_err(|_| Unfit::Rule("a root certificate's time is out of range".to_owned()))
    };
    Ok((time(&validity.not_before)?, time(&validity.not_after)?))
}

/// Extended key usages of a certificate that may sign roots, where it states any: code signing
/// (what notary's own certificates say), server authentication (what Go asks for by default), any.
const USAGES: [&[u8]; 3] =
    [&[0x2b, 6, 1, 5, 5, 7, 3, 3], &[0x2b, 6, 1, 5, 5, 7, 3, 1], &[0x55, 0x1d, 0x25, 0x00]];

/// Whether the bundle's leaf chains to one of the authorities; if so, until when. An older root is
/// judged at a time when its leaf was valid.
pub(super) fn chains_to(
    authorities: &[Vec<u8>],
    bundle: &[CertificateDer<'static>],
    now: Timestamp,
    is_final: bool,
) -> Option<Timestamp> {
    let (leaf, intermediates) = bundle.split_first()?;
    let (not_before, not_after) = times(leaf)?;
    let at = now.max(not_before);
    let at = if is_final { at } else { at.min(not_after) };
    // webpki takes an anchor as it is; Go holds authorities to their validity, and so do we.
    let authorities: Vec<(CertificateDer<'_>, Timestamp)> = authorities
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .filter_map(|der| times(&der).map(|(from, until)| (der, from, until)))
        .filter(|(_, from, until)| (*from..=*until).contains(&at))
        .map(|(der, _, until)| (der, until))
        .collect();
    let anchors: Vec<TrustAnchor<'_>> =
        authorities.iter().filter_map(|(der, _)| anchor_from_trusted_cert(der).ok()).collect();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).ok()?));
    let entity = EndEntityCert::try_from(leaf).ok()?;
    let path = USAGES.iter().find_map(|usage| {
        let usage = KeyUsage::required_if_present(usage);
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        entity.verify_for_usage(algorithms, &anchors, intermediates, at, usage, None, None).ok()
    })?;
    let is_anchor = |der| anchor_from_trusted_cert(der).is_ok_and(|other| other == *path.anchor());
    let anchor_until =
        authorities.iter().filter(|(der, _)| is_anchor(der)).map(|(_, until)| *until).max()?;
    path.intermediate_certificates()
        .map(|intermediate| times(&intermediate.der()).map(|(_, until)| until))
        .try_fold(not_after.min(anchor_until), |earliest, until| Some(earliest.min(until?)))
}

/// The NotAfter of the bundle's leaf.
pub(super) fn not_after(bundle: &[CertificateDer<'static>]) -> Option<Timestamp> {
    times(bundle.first()?).map(|(_, not_after)| not_after)
}

/// A certificate's NotBefore and NotAfter.
fn times(der: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    validity(read(der).ok()?.validity()).ok()
}
