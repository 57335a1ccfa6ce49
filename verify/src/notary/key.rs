//! Public keys, their ids, and the signatures that they verify.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature as algorithms;
use aws_lc_rs::signature::{ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::canonical::{Value, canonical};
use super::node::Node;
use crate::outcome::{Denial, KeyFingerprint};

/// A key as metadata lists it.
#[derive(Debug)]
pub(super) struct Key {
    /// `None` where the type is unknown or the value is no such key: it never verifies anything.
    usable: Option<Usable>,
    /// The certificates of an x509 key, leaf first.
    certificates: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
struct Usable {
    fingerprint: KeyFingerprint,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Ed25519(Vec<u8>),
    Ecdsa { spki: Vec<u8>, curve: &'static Curve },
    Rsa { spki: Vec<u8> },
}

#[derive(Debug)]
struct Curve {
    oid: &'static str,
    /// Length of a coordinate, and of each half of a signature, in bytes.
    field: usize,
    /// Signatures are over SHA-256 on every curve.
    verification: &'static dyn VerificationAlgorithm,
}

static CURVES: [Curve; 3] = [
    Curve {
        oid: "1.2.840.10045.3.1.7",
        field: 32,
        verification: &algorithms::ECDSA_P256_SHA256_ASN1,
    },
    Curve { oid: "1.3.132.0.34", field: 48, verification: &algorithms::ECDSA_P384_SHA256_ASN1 },
    Curve { oid: "1.3.132.0.35", field: 66, verification: &algorithms::ECDSA_P521_SHA256_ASN1 },
];

impl Key {
    /// Reads a key listed under `id`, which must be the key's own.
    pub(super) fn read(id: &str, node: Node<'_>) -> Result<Self, Denial> {
        let key_type = node.get("keytype")?.string()?;
        let public = node.get("keyval")?.get("public")?;
        if key_id(key_type, public.string()?) != id {
            return Err(node.malformed(format!("key {id:?} is not listed under its own id")));
        }
        let public = public.base64()?;
        let x509 = matches!(key_type, "ecdsa-x509" | "rsa-x509");
        let certificates = if x509 { read_bundle(&public) } else { Vec::new() };
        let usable = match key_type {
            "ed25519" => Usable::ed25519(public),
            "ecdsa" | "rsa" => Usable::from_spki(&public),
            _ => certificates.first().and_then(|leaf| Usable::from_certificate(leaf)),
        };
        let family = key_type.trim_end_matches("-x509");
        let usable = usable.filter(|usable| usable.material.family() == family);
        Ok(Self { usable, certificates })
    }

    /// What names the key under every id; `None` where it cannot be used.
    pub(super) fn fingerprint(&self) -> Option<KeyFingerprint> {
        self.usable.as_ref().map(|usable| usable.fingerprint)
    }

    /// The DER SubjectPublicKeyInfo; `None` for Ed25519, whose value is the raw key.
    pub(super) fn spki(&self) -> Option<&[u8]> {
        match &self.usable.as_ref()?.material {
            Material::Ed25519(_) => None,
            Material::Ecdsa { spki, .. } | Material::Rsa { spki } => Some(spki),
        }
    }

    /// The certificates of an x509 key, leaf first.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The key's fingerprint, if `signature` by `method` is its own over `message`.
    pub(super) fn verify(
        &self,
        method: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Option<KeyFingerprint> {
        let usable = self.usable.as_ref()?;
        usable.material.verify(method, message, signature).then_some(usable.fingerprint)
    }
}

/// The fingerprint of a DER SubjectPublicKeyInfo.
///
/// # Errors
/// A reason, where it is not the DER encoding of an RSA key or of an uncompressed point on P-256,
/// P-384 or P-521.
pub fn public_key_fingerprint(spki: &[u8]) -> Result<KeyFingerprint, String> {
    Usable::from_spki(spki)
        .map(|usable| usable.fingerprint)
        .ok_or_else(|| "not an RSA, P-256, P-384 or P-521 public key in DER".to_owned())
}

/// notary-v1 rule 4: sha256 of the key alone, whatever else its object holds.
fn key_id(key_type: &str, public: &str) -> String {
    let text = |text: &str| Value::String(text.to_owned());
    let object = |members: [(&str, Value); 2]| {
        Value::Object(BTreeMap::from(members.map(|(name, value)| (name.to_owned(), value))))
    };
    let value = object([("private", Value::Null), ("public", text(public))]);
    let key = object([("keytype", text(key_type)), ("keyval", value)]);
    super::hex(&super::sha256(&canonical(&key)))
}

/// An unreadable bundle is empty: its key cannot be used.
fn read_bundle(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap_or_default()
}

impl Usable {
    fn ed25519(public: Vec<u8>) -> Option<Self> {
        let raw: &[u8; 32] = public.as_slice().try_into().ok()?;
        ParsedPublicKey::new(&algorithms::ED25519, raw).ok()?;
        let fingerprint = KeyFingerprint(super::sha256(raw));
        Some(Self { fingerprint, material: Material::Ed25519(public) })
    }

    fn from_certificate(certificate: &[u8]) -> Option<Self> {
        match X509Certificate::from_der(certificate) {
            Ok(([], certificate)) => Self::from_spki(certificate.public_key().raw),
            _ => None,
        }
    }

    /// Only the encoding that aws-lc writes is taken (no compressed points, no odd DER), so that a
    /// key has one fingerprint.
    fn from_spki(spki: &[u8]) -> Option<Self> {
        let Ok(([], parsed)) = SubjectPublicKeyInfo::from_der(spki) else { return None };
        let (material, verification) = match parsed.parsed().ok()? {
            PublicKey::RSA(_) => {
                let verification: &'static dyn VerificationAlgorithm =
                    &algorithms::RSA_PSS_2048_8192_SHA256;
                (Material::Rsa { spki: spki.to_vec() }, verification)
            }
            PublicKey::EC(_) => {
                let parameters = parsed.algorithm.parameters.as_ref()?.as_oid().ok()?;
                let named = parameters.to_id_string();
                let curve = CURVES.iter().find(|curve| curve.oid == named)?;
                (Material::Ecdsa { spki: spki.to_vec(), curve }, curve.verification)
            }
            _ => return None,
        };
        let key = ParsedPublicKey::new(verification, spki).ok()?;
        let der: PublicKeyX509Der<'_> = key.as_der().ok()?;
        (der.as_ref() == spki)
            .then(|| Self { fingerprint: KeyFingerprint(super::sha256(spki)), material })
    }
}

impl Material {
    fn family(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::Ecdsa { .. } => "ecdsa",
            Self::Rsa { .. } => "rsa",
        }
    }

    fn verify(&self, method: &str, message: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm, key: &[u8], signature: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (self, method.to_ascii_lowercase().as_str()) {
            (Self::Ed25519(key), "eddsa") => by(&algorithms::ED25519, key, signature),
            (Self::Ecdsa { spki, curve }, "ecdsa") => fixed_to_der(signature, curve.field)
                .is_some_and(|der| by(curve.verification, spki, &der)),
            (Self::Rsa { spki }, "rsapss") => {
                by(&algorithms::RSA_PSS_2048_8192_SHA256, spki, signature)
            }
            (Self::Rsa { spki }, "rsapkcs1v15") => {
                by(&algorithms::RSA_PKCS1_2048_8192_SHA256, spki, signature)
            }
            _ => false,
        }
    }
}

/// notary-v1 rule 7: r and s raw, each as long as the curve's field. aws-lc has no fixed-length
/// P-384 with SHA-256, so all curves go through DER.
fn fixed_to_der(signature: &[u8], field: usize) -> Option<Vec<u8>> {
    if signature.len() != 2 * field {
        return None;
    }
    let (r, s) = signature.split_at(field);
    let mut body = der_integer(r);
    body.extend(der_integer(s));
    let length = u8::try_from(body.len()).ok()?;
    let mut der = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    der.append(&mut body);
    Some(der)
}

/// A DER INTEGER of at most 66 significant bytes, so its length takes one byte.
fn der_integer(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let mut content = big_endian[zeros..].to_vec();
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    let length = content.len() as u8;
    let mut der = vec![0x02, length];
    der.append(&mut content);
    der
}

#[cfg(test)]
mod tests;
