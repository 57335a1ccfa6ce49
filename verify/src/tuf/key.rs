//! Public keys as TUF 1.0 lists them, by whatever id.

use aws_lc_rs::signature as algorithms;
use aws_lc_rs::signature::{UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

use crate::hash::unhex;
use crate::json::Node;
use crate::outcome::{Denial, KeyFingerprint};
use crate::public_key::{Curve, Material, PublicKey};
use crate::threshold::{Signature, Verifier};

/// A key as metadata lists it.
#[derive(Debug)]
pub(super) struct Key {
    /// `None` where type, scheme and value are not those of one known kind: it never verifies
    /// anything.
    usable: Option<Usable>,
}

#[derive(Debug)]
struct Usable {
    key: PublicKey,
    algorithm: &'static dyn VerificationAlgorithm,
}

/// What stands before the 65 bytes of an uncompressed point in a P-256 SubjectPublicKeyInfo.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl Key {
    /// Reads a key. One of an unknown type is read as well, for other keys may be enough.
    pub(super) fn read(node: Node<'_>) -> Result<Self, Denial> {
        let key_type = node.get("keytype")?.string()?;
        let scheme = node.get("scheme")?.string()?;
        let public = node.get("keyval")?.optional("public")?;
        let public = public.and_then(|public| public.string().ok());
        Ok(Self { usable: public.and_then(|public| Usable::read(key_type, scheme, public)) })
    }

    /// Whether it can verify anything.
    pub(super) fn is_usable(&self) -> bool {
        self.usable.is_some()
    }
}

impl Usable {
    fn read(key_type: &str, scheme: &str, public: &str) -> Option<Self> {
        let family = match key_type {
            // As securesystemslib wrote it before 1.0: the scheme for the type.
            "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" if key_type == scheme => "ecdsa",
            other => other,
        };
        let key = match family {
            "ed25519" => PublicKey::ed25519(&unhex(public)?)?,
            "ecdsa" | "rsa" => PublicKey::from_spki(&spki(public)?)?,
            _ => return None,
        };
        let algorithm: &'static dyn VerificationAlgorithm = match (&key.material, scheme) {
            (Material::Ed25519(_), "ed25519") => &algorithms::ED25519,
            (Material::Ecdsa { curve: Curve::P256, .. }, "ecdsa-sha2-nistp256") => {
                &algorithms::ECDSA_P256_SHA256_ASN1
            }
            (Material::Ecdsa { curve: Curve::P384, .. }, "ecdsa-sha2-nistp384") => {
                &algorithms::ECDSA_P384_SHA384_ASN1
            }
            (Material::Rsa { .. }, "rsassa-pss-sha256") => &algorithms::RSA_PSS_2048_8192_SHA256,
            (Material::Rsa { .. }, "rsassa-pss-sha384") => &algorithms::RSA_PSS_2048_8192_SHA384,
            (Material::Rsa { .. }, "rsassa-pss-sha512") => &algorithms::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        };
        (key.material.family() == family).then_some(Self { key, algorithm })
    }
}

/// The DER of a PEM block, or of a P-256 point in hex, as go-tuf and Sigstore wrote it at first.
fn spki(public: &str) -> Option<Vec<u8>> {
    if let Some(point) = unhex(public) {
        return Some([&P256_PREFIX[..], &point].concat());
    }
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).ok()?;
    Some(spki.to_vec())
}

impl Verifier for Key {
    fn fingerprint(&self) -> Option<KeyFingerprint> {
        self.usable.as_ref().map(|usable| usable.key.fingerprint)
    }

    fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let Some(Usable { key, algorithm }) = &self.usable else { return false };
        let key = match &key.material {
            Material::Ed25519(raw) => raw,
            Material::Ecdsa { spki, .. } | Material::Rsa { spki } => spki,
        };
        UnparsedPublicKey::new(*algorithm, key).verify(message, &signature.bytes).is_ok()
    }
}
