//! Image references, digests and the patterns that match them.

mod digest;
mod grammar;
mod pattern;
mod reference;

pub use digest::{Algorithm, Digest, InvalidDigest};
pub(crate) use grammar::is_tag;
pub use pattern::{InvalidPattern, Pattern};
pub use reference::{InvalidReference, Reference};
