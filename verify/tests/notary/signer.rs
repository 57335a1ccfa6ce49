//! Keys of every type that metadata may hold, able to sign.

use std::rc::Rc;

use aws_lc_rs::digest::{self, Digest, SHA256, SHA384};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_verify::outcome::KeyFingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    PKCS_RSA_SHA256, date_time_ymd,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

use crate::builder::{canonical, sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    P256,
    P384,
    P521,
    RsaPss,
    RsaPkcs1,
}

pub const KINDS: [Kind; 6] =
    [Kind::Ed25519, Kind::P256, Kind::P384, Kind::P521, Kind::RsaPss, Kind::RsaPkcs1];

enum Secret {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A key as metadata lists it, and its secret.
#[derive(Clone)]
pub struct Signer {
    secret: Rc<Secret>,
    pub kind: Kind,
    pub key_type: String,
    pub method: String,
    pub public: Vec<u8>,
}

/// What a root certificate says.
#[derive(Clone)]
pub struct Cert {
    pub names: Vec<String>,
    pub from: (i32, u8, u8),
    pub until: (i32, u8, u8),
    pub ca: bool,
}

impl Cert {
    pub fn named(name: &str) -> Self {
        Self { names: vec![name.to_owned()], from: (2029, 1, 1), until: (2035, 1, 1), ca: false }
    }

    pub fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // rcgen keeps one value per type; a CN by its OID is a type of its own to it.
        let types = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
        for (name, dn_type) in self.names.iter().zip(types) {
            params.distinguished_name.push(dn_type, name.as_str());
        }
        let date = |(year, month, day)| date_time_ymd(year, month, day);
        (params.not_before, params.not_after) = (date(self.from), date(self.until));
        if self.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        } else {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        }
        params
    }
}

fn ecdsa(kind: Kind) -> &'static EcdsaSigningAlgorithm {
    match kind {
        Kind::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        Kind::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &signature::ECDSA_P521_SHA256_FIXED_SIGNING,
    }
}

impl Signer {
    /// A plain key.
    pub fn new(kind: Kind) -> Self {
        let (secret, key_type, method) = match kind {
            Kind::Ed25519 => {
                (Secret::Ed25519(Ed25519KeyPair::generate().unwrap()), "ed25519", "eddsa")
            }
            Kind::P256 | Kind::P384 | Kind::P521 => {
                (Secret::Ecdsa(EcdsaKeyPair::generate(ecdsa(kind)).unwrap()), "ecdsa", "ecdsa")
            }
            Kind::RsaPss => {
                (Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()), "rsa", "rsapss")
            }
            Kind::RsaPkcs1 => {
                (Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()), "rsa", "rsapkcs1v15")
            }
        };
        let mut signer = Self {
            secret: Rc::new(secret),
            kind,
            key_type: key_type.to_owned(),
            method: method.to_owned(),
            public: Vec::new(),
        };
        signer.public = signer.spki();
        signer
    }

    /// The same key, signing by this method.
    pub fn by_method(&self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self.clone() }
    }

    /// The same key, listed as of this type.
    pub fn of_type(&self, key_type: &str) -> Self {
        Self { key_type: key_type.to_owned(), ..self.clone() }
    }

    /// The same key, listed with these bytes.
    pub fn listed_as(&self, public: Vec<u8>) -> Self {
        Self { public, ..self.clone() }
    }

    /// A key with a self-signed certificate.
    pub fn x509(kind: Kind, cert: &Cert) -> Self {
        Self::new(kind).certified(cert)
    }

    /// The same key with a self-signed certificate.
    pub fn certified(&self, cert: &Cert) -> Self {
        let pem = cert.params().self_signed(&self.rcgen()).unwrap().pem();
        self.bundled(&[pem])
    }

    /// The same key with a self-signed certificate that names another algorithm, in the
    /// certificate's outer part only or everywhere. The signature itself does not fit any more.
    pub fn certified_by(&self, cert: &Cert, from: &[u8], to: &[u8], everywhere: bool) -> Self {
        let mut der = self.authority(cert);
        let places: Vec<usize> =
            (0..der.len() - from.len()).filter(|at| der[*at..].starts_with(from)).collect();
        for at in &places[if everywhere { 0 } else { places.len() - 1 }..] {
            der[*at..at + to.len()].copy_from_slice(to);
        }
        let text = BASE64_STANDARD.encode(der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        self.bundled(&[pem])
    }

    /// The same key with a certificate by `issuer`.
    pub fn issued(&self, cert: &Cert, issuer: &Signer, issuer_cert: &Cert) -> String {
        let key = issuer.rcgen();
        let issuer = Issuer::new(issuer_cert.params(), key);
        cert.params().signed_by(&self.rcgen(), &issuer).unwrap().pem()
    }

    /// The same key with these certificates.
    pub fn bundled(&self, pems: &[String]) -> Self {
        let key_type = match self.kind {
            Kind::RsaPss | Kind::RsaPkcs1 => "rsa-x509",
            _ => "ecdsa-x509",
        };
        let public = pems.concat().into_bytes();
        Self { key_type: key_type.to_owned(), public, ..self.clone() }
    }

    /// The DER of a self-signed certificate.
    pub fn authority(&self, cert: &Cert) -> Vec<u8> {
        cert.params().self_signed(&self.rcgen()).unwrap().der().to_vec()
    }

    fn rcgen(&self) -> rcgen::KeyPair {
        let (pkcs8, algorithm) = match &*self.secret {
            Secret::Ecdsa(pair) => (
                pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
                match self.kind {
                    Kind::P256 => &PKCS_ECDSA_P256_SHA256,
                    Kind::P384 => &PKCS_ECDSA_P384_SHA384,
                    _ => &PKCS_ECDSA_P521_SHA512,
                },
            ),
            Secret::Rsa(pair) => (pair.as_der().unwrap().as_ref().to_vec(), &PKCS_RSA_SHA256),
            Secret::Ed25519(_) => panic!("notary has no ed25519 certificates"),
        };
        let key = PrivatePkcs8KeyDer::from(pkcs8);
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, algorithm).unwrap()
    }

    /// The SubjectPublicKeyInfo, or an ed25519 key's raw bytes.
    pub fn spki(&self) -> Vec<u8> {
        match &*self.secret {
            Secret::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Secret::Ecdsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Secret::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    pub fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint(sha256(&self.spki()))
    }

    /// As metadata lists it.
    pub fn json(&self) -> Value {
        let public = BASE64_STANDARD.encode(&self.public);
        json!({"keytype": self.key_type, "keyval": {"private": null, "public": public}})
    }

    pub fn id(&self) -> String {
        sha256(&canonical(&self.json())).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match (&*self.secret, self.kind) {
            (Secret::Ed25519(pair), _) => pair.sign(message).as_ref().to_vec(),
            // SHA-256's 32 bytes, as the 48 that aws-lc's P-384 wants: the same number.
            (Secret::Ecdsa(pair), Kind::P384) => {
                let mut padded = vec![0; 16];
                padded.extend(digest::digest(&SHA256, message).as_ref());
                let digest = Digest::import_less_safe(&padded, &SHA384).unwrap();
                pair.sign_digest(&digest).unwrap().as_ref().to_vec()
            }
            (Secret::Ecdsa(pair), _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            (Secret::Rsa(pair), _) => {
                let encoding: &'static dyn signature::RsaEncoding = match self.method.as_str() {
                    "rsapss" => &signature::RSA_PSS_SHA256,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}
