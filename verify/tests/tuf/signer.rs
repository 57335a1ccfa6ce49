//! Keys of every type that TUF metadata may hold, able to sign.

use std::rc::Rc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_verify::outcome::KeyFingerprint;
use serde_json::{Value, json};

use crate::builder::{hex, sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    P256,
    P384,
    Rsa,
}

pub const KINDS: [Kind; 4] = [Kind::Ed25519, Kind::P256, Kind::P384, Kind::Rsa];

enum Secret {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A key as metadata lists it, and its secret.
#[derive(Clone)]
pub struct Signer {
    secret: Rc<Secret>,
    pub id: String,
    pub key_type: String,
    pub scheme: String,
    pub public: Value,
}

impl Default for Signer {
    fn default() -> Self {
        Self::new(Kind::Ed25519)
    }
}

impl Signer {
    pub fn new(kind: Kind) -> Self {
        let ecdsa = |algorithm| Secret::Ecdsa(EcdsaKeyPair::generate(algorithm).unwrap());
        let (secret, key_type, scheme) = match kind {
            Kind::Ed25519 => {
                (Secret::Ed25519(Ed25519KeyPair::generate().unwrap()), "ed25519", "ed25519")
            }
            Kind::P256 => (ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING), "ecdsa", "ecdsa-sha2-nistp256"),
            Kind::P384 => (ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING), "ecdsa", "ecdsa-sha2-nistp384"),
            Kind::Rsa => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                (Secret::Rsa(pair), "rsa", "rsassa-pss-sha256")
            }
        };
        let mut signer = Self {
            secret: Rc::new(secret),
            id: String::new(),
            key_type: key_type.to_owned(),
            scheme: scheme.to_owned(),
            public: Value::Null,
        };
        signer.id = hex(&sha256(&signer.spki()));
        signer.public = json!(match kind {
            Kind::Ed25519 => hex(&signer.spki()),
            _ => signer.pem(),
        });
        signer
    }

    /// The same key under another id.
    pub fn known_as(&self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self.clone() }
    }

    /// The same key, listed as of this type.
    pub fn of_type(&self, key_type: &str) -> Self {
        Self { key_type: key_type.to_owned(), ..self.clone() }
    }

    /// The same key by this scheme.
    pub fn by_scheme(&self, scheme: &str) -> Self {
        Self { scheme: scheme.to_owned(), ..self.clone() }
    }

    /// The same key, listed as this.
    pub fn listed_as(&self, public: Value) -> Self {
        Self { public, ..self.clone() }
    }

    /// The SubjectPublicKeyInfo, or an ed25519 key's raw bytes.
    pub fn spki(&self) -> Vec<u8> {
        match &*self.secret {
            Secret::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Secret::Ecdsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Secret::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    pub fn pem(&self) -> String {
        let text = BASE64_STANDARD.encode(self.spki());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    pub fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint(sha256(&self.spki()))
    }

    /// As metadata lists it.
    pub fn json(&self) -> Value {
        json!({
            "keytype": self.key_type,
            "scheme": self.scheme,
            "keyval": {"public": self.public},
            "x-tuf-on-ci-keyowner": "@somebody",
        })
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.secret {
            Secret::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Secret::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Secret::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match self.scheme.as_str() {
                    "rsassa-pss-sha384" => &RSA_PSS_SHA384,
                    "rsassa-pss-sha512" => &RSA_PSS_SHA512,
                    _ => &RSA_PSS_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}
