//! Public keys of every type that metadata of either dialect may hold.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature as algorithms;
use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey as Parsed;

use crate::hash::sha256;
use crate::outcome::KeyFingerprint;

/// A key that can verify.
#[derive(Debug)]
pub(crate) struct PublicKey {
    pub(crate) fingerprint: KeyFingerprint,
    pub(crate) material: Material,
}

#[derive(Debug)]
pub(crate) enum Material {
    Ed25519(Vec<u8>),
    Ecdsa { spki: Vec<u8>, curve: Curve },
    Rsa { spki: Vec<u8> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    fn of(oid: &str) -> Option<(Self, &'static dyn VerificationAlgorithm)> {
        Some(match oid {
            "1.2.840.10045.3.1.7" => (Self::P256, &algorithms::ECDSA_P256_SHA256_ASN1),
            "1.3.132.0.34" => (Self::P384, &algorithms::ECDSA_P384_SHA256_ASN1),
            "1.3.132.0.35" => (Self::P521, &algorithms::ECDSA_P521_SHA256_ASN1),
            _ => return None,
        })
    }
}

impl PublicKey {
    /// From a raw Ed25519 key.
    pub(crate) fn ed25519(raw: &[u8]) -> Option<Self> {
        let raw: &[u8; 32] = raw.try_into().ok()?;
        ParsedPublicKey::new(&algorithms::ED25519, raw).ok()?;
        let fingerprint = KeyFingerprint(sha256(raw));
        Some(Self { fingerprint, material: Material::Ed25519(raw.to_vec()) })
    }

    /// From a DER SubjectPublicKeyInfo. Only the encoding that aws-lc writes is taken (no
    /// compressed points, no odd DER), so that a key has one fingerprint.
    pub(crate) fn from_spki(spki: &[u8]) -> Option<Self> {
        let Ok(([], parsed)) = SubjectPublicKeyInfo::from_der(spki) else { return None };
        let (material, verification) = match parsed.parsed().ok()? {
            Parsed::RSA(_) => {
                let verification: &'static dyn VerificationAlgorithm =
                    &algorithms::RSA_PSS_2048_8192_SHA256;
                (Material::Rsa { spki: spki.to_vec() }, verification)
            }
            Parsed::EC(_) => {
                let parameters = parsed.algorithm.parameters.as_ref()?.as_oid().ok()?;
                let (curve, verification) = Curve::of(&parameters.to_id_string())?;
                (Material::Ecdsa { spki: spki.to_vec(), curve }, verification)
            }
            _ => return None,
        };
        let key = ParsedPublicKey::new(verification, spki).ok()?;
        let der: PublicKeyX509Der<'_> = key.as_der().ok()?;
        (der.as_ref() == spki).then(|| Self { fingerprint: KeyFingerprint(sha256(spki)), material })
    }
}

impl Material {
    /// The key's type, as both dialects call it.
    pub(crate) fn family(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::Ecdsa { .. } => "ecdsa",
            Self::Rsa { .. } => "rsa",
        }
    }
}
