//! Content digests.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA512, digest};

/// A hash algorithm that names content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256: 64 hex digits.
    Sha256,
    /// SHA-512: 128 hex digits.
    Sha512,
}

/// A content digest, as `sha256:...` with lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

/// Why a string is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDigest(pub String);

/// Length of `sha256:` and of `sha512:`.
const PREFIX_LEN: usize = 7;

impl Digest {
    /// Reads `sha256:<64 hex>` or `sha512:<128 hex>`, lower case.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = |reason: String| Err(InvalidDigest(reason));
        let Some((algorithm, hex)) = text.split_once(':') else {
            return invalid("a digest is written as sha256:<64 hex digits>".to_owned());
        };
        let (algorithm, length) = match algorithm {
            "sha256" => (Algorithm::Sha256, 64),
            "sha512" => (Algorithm::Sha512, 128),
            _ => {
                return invalid(format!(
                    "digest algorithm \"{}\" is not supported; use sha256 or sha512",
                    algorithm.escape_debug()
                ));
            }
        };
        if hex.len() != length {
            return invalid(format!(
                "a {} digest has {length} hex digits, this one has {}",
                &text[..PREFIX_LEN - 1],
                hex.chars().count()
            ));
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return invalid("a digest has lower-case hex digits (0-9, a-f) only".to_owned());
        }
        Ok(Self { algorithm, text: text.to_owned() })
    }

    /// The sha256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::from_bytes(Algorithm::Sha256, digest(&SHA256, bytes).as_ref())
    }

    /// The digest whose sha256 is `hash`.
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        Self::from_bytes(Algorithm::Sha256, hash)
    }

    fn from_bytes(algorithm: Algorithm, hash: &[u8]) -> Self {
        let prefix = match algorithm {
            Algorithm::Sha256 => "sha256:",
            Algorithm::Sha512 => "sha512:",
        };
        let hex = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let hex = hex.filter_map(|nibble| char::from_digit(u32::from(nibble), 16));
        Self { algorithm, text: prefix.chars().chain(hex).collect() }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits after the colon.
    pub fn hex(&self) -> &str {
        &self.text[PREFIX_LEN..]
    }

    /// Whether `bytes` have this digest.
    pub fn verifies(&self, bytes: &[u8]) -> bool {
        let hash = match self.algorithm {
            Algorithm::Sha256 => digest(&SHA256, bytes),
            Algorithm::Sha512 => digest(&SHA512, bytes),
        };
        *self == Self::from_bytes(self.algorithm, hash.as_ref())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_and_prints_both_algorithms() {
        for (text, algorithm) in [
            (format!("sha256:{EMPTY}"), Algorithm::Sha256),
            (format!("sha512:{EMPTY}{EMPTY}"), Algorithm::Sha512),
        ] {
            let digest = Digest::parse(&text).expect("a digest");
            assert_eq!(digest.to_string(), text);
            assert_eq!(digest.algorithm(), algorithm);
            assert_eq!(digest.hex(), &text[7..]);
        }
    }

    #[test]
    fn r8_refuses_other_algorithms_cases_and_lengths() {
        let upper = EMPTY.to_uppercase();
        for (text, reason) in [
            (EMPTY.to_owned(), "a digest is written as sha256:<64 hex digits>"),
            (
                format!("sha384:{EMPTY}"),
                "digest algorithm \"sha384\" is not supported; use sha256 or sha512",
            ),
            (
                format!("SHA256:{EMPTY}"),
                "digest algorithm \"SHA256\" is not supported; use sha256 or sha512",
            ),
            (
                format!("sha256+b64:{EMPTY}"),
                "digest algorithm \"sha256+b64\" is not supported; use sha256 or sha512",
            ),
            (format!("sha256:{upper}"), "a digest has lower-case hex digits (0-9, a-f) only"),
            (
                format!("sha256:{}", &EMPTY[1..]),
                "a sha256 digest has 64 hex digits, this one has 63",
            ),
            (format!("sha512:{EMPTY}"), "a sha512 digest has 128 hex digits, this one has 64"),
            (
                format!("sha256:{}é", &EMPTY[2..]),
                "a digest has lower-case hex digits (0-9, a-f) only",
            ),
            ("sha256:".to_owned(), "a sha256 digest has 64 hex digits, this one has 0"),
        ] {
            assert_eq!(Digest::parse(&text), Err(InvalidDigest(reason.to_owned())), "{text}");
        }
    }

    #[test]
    fn r2_verifies_only_the_bytes_it_was_made_of() {
        let digest = Digest::sha256(b"");
        assert_eq!(digest.hex(), EMPTY);
        assert!(digest.verifies(b""));
        assert!(!digest.verifies(b"\0"));
        let hash: [u8; 32] =
            super::digest(&SHA256, b"manifest").as_ref().try_into().expect("32 bytes");
        assert_eq!(Digest::from_sha256(&hash), Digest::sha256(b"manifest"));
        let sha512 = Digest::from_bytes(Algorithm::Sha512, super::digest(&SHA512, b"x").as_ref());
        assert!(sha512.verifies(b"x"));
        assert!(!sha512.verifies(b"y"));
        assert_eq!(Digest::parse(&sha512.to_string()), Ok(sha512));
    }
}
