//! Public keys, their ids, and the signatures that they verify.

use aws_lc_rs::signature as algorithms;
use aws_lc_rs::signature::{UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::json::{Node, Value, canonical};
use crate::outcome::{Denial, KeyFingerprint, shortened};
use crate::public_key::{Curve, Material, PublicKey};
use crate::threshold::{Signature, Verifier};

/// A key as metadata lists it.
#[derive(Debug)]
pub(super) struct Key {
    /// `None` where the type is unknown or the value is no such key: it never verifies anything.
    usable: Option<PublicKey>,
    /// The certificates of an x509 key, leaf first.
    certificates: Vec<CertificateDer<'static>>,
}

impl Key {
    /// Reads a key listed under `id`, which must be the key's own.
    pub(super) fn read(id: &str, node: Node<'_>) -> Result<Self, Denial> {
        let key_type = node.get("keytype")?.string()?;
        let public = node.get("keyval")?.get("public")?;
        if key_id(key_type, public.string()?) != id {
            let id = shortened(id);
            return Err(node.malformed(format!("key {id:?} is not listed under its own id")));
        }
        let public = public.base64()?;
        let x509 = matches!(key_type, "ecdsa-x509" | "rsa-x509");
        let certificates = if x509 { read_bundle(&public) } else { Vec::new() };
        let usable = match key_type {
            "ed25519" => PublicKey::ed25519(&public),
            "ecdsa" | "rsa" => PublicKey::from_spki(&public),
            _ => certificates.first().and_then(|leaf| from_certificate(leaf)),
        };
        let family = key_type.trim_end_matches("-x509");
        let usable = usable.filter(|usable| usable.material.family() == family);
        Ok(Self { usable, certificates })
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
}

/// The fingerprint of a DER SubjectPublicKeyInfo.
///
/// # Errors
/// A reason, where it is not the DER encoding of an RSA key or of an uncompressed point on P-256,
/// P-384 or P-521.
pub fn public_key_fingerprint(spki: &[u8]) -> Result<KeyFingerprint, String> {
    PublicKey::from_spki(spki)
        .map(|key| key.fingerprint)
        .ok_or_else(|| "not an RSA, P-256, P-384 or P-521 public key in DER".to_owned())
}

/// notary-v1 rule 4: sha256 of the key alone, whatever else its object holds.
fn key_id(key_type: &str, public: &str) -> String {
    let text = |text: &str| canonical(&Value::String(text.into()));
    let (key_type, public) = (text(key_type), text(public));
    let (start, middle) =
        (&b"{\"keytype\":"[..], &b",\"keyval\":{\"private\":null,\"public\":"[..]);
    super::hex(&super::sha256(&[start, &key_type, middle, &public, b"}}"].concat()))
}

/// An unreadable bundle is empty: its key cannot be used.
fn read_bundle(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap_or_default()
}

fn from_certificate(certificate: &[u8]) -> Option<PublicKey> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => PublicKey::from_spki(certificate.public_key().raw),
        _ => None,
    }
}

impl Verifier for Key {
    fn fingerprint(&self) -> Option<KeyFingerprint> {
        self.usable.as_ref().map(|usable| usable.fingerprint)
    }

    fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let usable = self.usable.as_ref();
        usable.is_some_and(|usable| verifies(&usable.material, message, signature))
    }
}

fn verifies(material: &Material, message: &[u8], signature: &Signature) -> bool {
    let Signature { method, bytes, .. } = signature;
    let by = |algorithm, key: &[u8], signature: &[u8]| {
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    };
    match (material, method.to_ascii_lowercase().as_str()) {
        (Material::Ed25519(key), "eddsa") => by(&algorithms::ED25519, key, bytes),
        (Material::Ecdsa { spki, curve }, "ecdsa") => fixed_to_der(bytes, field_bytes(*curve))
            .is_some_and(|der| by(ecdsa_sha256(*curve), spki, &der)),
        (Material::Rsa { spki }, "rsapss") => {
            by(&algorithms::RSA_PSS_2048_8192_SHA256, spki, bytes)
        }
        (Material::Rsa { spki }, "rsapkcs1v15") => {
            by(&algorithms::RSA_PKCS1_2048_8192_SHA256, spki, bytes)
        }
        _ => false,
    }
}

/// Signatures are over SHA-256 on every curve.
fn ecdsa_sha256(curve: Curve) -> &'static dyn VerificationAlgorithm {
    match curve {
        Curve::P256 => &algorithms::ECDSA_P256_SHA256_ASN1,
        Curve::P384 => &algorithms::ECDSA_P384_SHA256_ASN1,
        Curve::P521 => &algorithms::ECDSA_P521_SHA256_ASN1,
    }
}

/// Length of a coordinate, and of each half of a signature, in bytes.
fn field_bytes(curve: Curve) -> usize {
    match curve {
        Curve::P256 => 32,
        Curve::P384 => 48,
        Curve::P521 => 66,
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
