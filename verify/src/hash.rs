//! Hashes, and their hex digits.

use aws_lc_rs::digest;

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

pub(crate) fn sha512(bytes: &[u8]) -> [u8; 64] {
    let mut hash = [0; 64];
    hash.copy_from_slice(digest::digest(&digest::SHA512, bytes).as_ref());
    hash
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
