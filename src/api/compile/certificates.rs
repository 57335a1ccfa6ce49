//! PEM public keys and certificates.

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Wrong, check_count, wrong};
use crate::api::bounds;

const PUBLIC_KEY: &str = "PUBLIC KEY";
const CERTIFICATE: &str = "CERTIFICATE";

/// Smallest RSA modulus of a Notary key, in bits. Source: notary's Go client (`MinRSABitSize`).
const RSA_BITS: usize = 2048;

/// Each key's DER SubjectPublicKeyInfo.
pub(super) fn public_keys(field: &str, pems: &[String]) -> Result<Vec<Vec<u8>>, Wrong> {
    check_count(field, pems.len(), bounds::PIN_KEYS)?;
    let mut keys = Vec::new();
    for (index, pem) in pems.iter().enumerate() {
        let item = format!("{field}[{index}]");
        let key = public_key(pem).map_err(|reason| Wrong::new(&item, reason))?;
        if keys.contains(&key) {
            return wrong(item, "it is listed twice; one key counts once");
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Each authority's DER certificate.
pub(super) fn authorities(
    field: &str,
    pems: &[String],
    now: Timestamp,
) -> Result<Vec<Vec<u8>>, Wrong> {
    check_count(field, pems.len(), bounds::PIN_KEYS)?;
    let mut authorities = Vec::new();
    for (index, pem) in pems.iter().enumerate() {
        let item = format!("{field}[{index}]");
        let der = authority(pem, now).map_err(|reason| Wrong::new(&item, reason))?;
        if authorities.contains(&der) {
            return wrong(item, "it is listed twice; remove one");
        }
        authorities.push(der);
    }
    Ok(authorities)
}

/// Whether there are PEM certificates, and nothing else.
pub(super) fn check_bundle(pem: &[u8]) -> Result<(), String> {
    let blocks = blocks(pem)?;
    if blocks.is_empty() {
        return Err("it holds no PEM certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    blocks.iter().try_for_each(|block| {
        expect_label(block, CERTIFICATE)?;
        certificate(&block.contents).map(|_| ())
    })
}

fn blocks(pem: &[u8]) -> Result<Vec<Pem>, String> {
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(pem).collect();
    blocks.map_err(|_| "it is not valid PEM".to_owned())
}

fn single(pem: &str, label: &str) -> Result<Vec<u8>, String> {
    if pem.len() > bounds::PEM_CHARS {
        return Err(format!("it is longer than {} bytes", bounds::PEM_CHARS));
    }
    let mut blocks = blocks(pem.as_bytes())?;
    match (blocks.len(), blocks.pop()) {
        (1, Some(block)) => {
            expect_label(&block, label)?;
            Ok(block.contents)
        }
        (0, _) => Err(format!("it holds no PEM block (-----BEGIN {label}-----)")),
        (count, _) => Err(format!("it holds {count} PEM blocks; write each as an item of its own")),
    }
}

fn expect_label(block: &Pem, wanted: &str) -> Result<(), String> {
    match (block.label.as_str(), wanted) {
        (found, wanted) if found == wanted => Ok(()),
        (CERTIFICATE, PUBLIC_KEY) => Err(
            "it is a certificate, not a public key; get its key with: openssl x509 -pubkey -noout -in FILE"
                .to_owned(),
        ),
        (PUBLIC_KEY, CERTIFICATE) => {
            Err("it is a public key, not a certificate; use publicKeys for it".to_owned())
        }
        (found, _) if found.contains("PRIVATE KEY") => {
            Err("it is a private key, which belongs to its owner only; replace the key, and write the new one's public part".to_owned())
        }
        (found, wanted) => Err(format!("it is a PEM {}, not a {wanted}", found.escape_debug())),
    }
}

fn public_key(pem: &str) -> Result<Vec<u8>, String> {
    let der = single(pem, PUBLIC_KEY)?;
    let (rest, info) = SubjectPublicKeyInfo::from_der(&der)
        .map_err(|_| "it is not a DER SubjectPublicKeyInfo".to_owned())?;
    if !rest.is_empty() {
        return Err("it has bytes behind its SubjectPublicKeyInfo".to_owned());
    }
    let bits = match info.parsed() {
        Ok(PublicKey::RSA(key)) => Ok(key.key_size()),
        Ok(PublicKey::EC(_)) => Err(()),
        _ => {
            return Err(
                "it is neither an ECDSA nor an RSA key, as Notary's root keys are".to_owned()
            );
        }
    };
    let most = countersign_verify::limits::RSA_BITS;
    match bits {
        Ok(bits) if !(RSA_BITS..=most).contains(&bits) => {
            Err(format!("it is an RSA key of {bits} bits; {RSA_BITS} to {most} are accepted"))
        }
        _ => Ok(der),
    }
}

fn authority(pem: &str, now: Timestamp) -> Result<Vec<u8>, String> {
    let der = single(pem, CERTIFICATE)?;
    let parsed = certificate(&der)?;
    if !parsed.is_ca() {
        return Err(
            "its certificate is not an authority's (basicConstraints has no CA:TRUE)".to_owned()
        );
    }
    let now = ASN1Time::from_timestamp(now.as_second())
        .map_err(|_| "this machine's clock has no valid time".to_owned())?;
    let validity = parsed.validity();
    if now > validity.not_after {
        return Err(format!("its certificate expired at {}", time(validity.not_after)));
    }
    if now < validity.not_before {
        return Err(format!("its certificate is not valid before {}", time(validity.not_before)));
    }
    Ok(der)
}

fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("it has bytes behind its certificate".to_owned()),
        Err(_) => Err("it is not a DER certificate".to_owned()),
    }
}

fn time(time: ASN1Time) -> String {
    Timestamp::from_second(time.timestamp())
        .map_or_else(|_| time.to_string(), |timestamp| timestamp.to_string())
}
