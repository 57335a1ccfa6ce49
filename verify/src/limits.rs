//! Every bound on what is read or walked, with its source.

use crate::json::Node;
use crate::outcome::Denial;

/// The length of a verified file as its repository counts it, in bytes. `made` is the memory that
/// takes what was made of it: of an ordinary file less than twice its length.
pub(crate) fn counted(length: u64, made: usize) -> u64 {
    length.max(made as u64 / 2)
}

/// Refuses what is longer than `limit` bytes.
pub(crate) fn check_length(file: &str, length: u64, limit: u64) -> Result<(), Denial> {
    if length > limit {
        return Err(Denial::LimitExceeded { what: format!("{file}, in bytes,"), limit });
    }
    Ok(())
}

/// Refuses more of something in one file than its limit.
pub(crate) fn check_count(
    node: Node<'_>,
    what: &str,
    count: usize,
    limit: usize,
) -> Result<(), Denial> {
    if count > limit {
        let what = format!("the number of {what} in {}", node.file());
        return Err(Denial::LimitExceeded { what, limit: limit as u64 });
    }
    Ok(())
}

/// Largest `timestamp.json` read, in bytes. Source: notary's Go client (`MaxTimestampSize`, 1 MiB).
pub const TIMESTAMP_BYTES: u64 = 1 << 20;

/// Largest root or snapshot file read, in bytes. The Go client allows 100 MiB; real files are
/// kilobytes, and a root holds a handful of certificates.
pub const ROOT_BYTES: u64 = 1 << 20;

/// Largest `snapshot.json` read, in bytes; the same reasoning as [`ROOT_BYTES`].
pub const SNAPSHOT_BYTES: u64 = 1 << 20;

/// Largest targets or delegated targets file read, in bytes: about 60,000 tags.
pub const TARGETS_BYTES: u64 = 16 << 20;

/// Largest targets file read before the snapshot tells its length, in bytes: about 4,000 tags. A
/// larger one costs a round trip more, and is read by its hash, as long as it is listed.
/// Source: whoever serves the files chooses what an unverified one makes us hold.
pub const SPECULATIVE_TARGETS_BYTES: u64 = 1 << 20;

/// Largest sum of one Notary repository's targets files that are loaded, in bytes: 120,000 tags in
/// all its roles, of which a team has hundreds. Source: whoever may sign one repository chooses how
/// long its files are, all are held at once, and they are to be a fraction of what a replica has;
/// two of [`TARGETS_BYTES`].
pub const NOTARY_REPOSITORY_BYTES: u64 = 32 << 20;

/// Most root rotations followed in one update. Source: python-tuf (`max_root_rotations`, 256).
pub const ROOT_ROTATIONS: u64 = 256;

/// Most delegated roles loaded for one repository. Source: python-tuf (`max_delegations`, 32).
pub const DELEGATIONS: usize = 32;

/// Deepest chain of delegations below `targets` that is followed.
pub const DELEGATION_DEPTH: usize = 8;

/// Longest role name, in bytes. Source: notary's Go client (names under 256 bytes).
pub const ROLE_NAME_BYTES: usize = 255;

/// Most signatures considered on one file. A role has a handful of keys; the rest is an attempt
/// to make us spend time.
pub const SIGNATURES: usize = 64;

/// Most keys in one file's key table, for the same reason as [`SIGNATURES`].
pub const KEYS: usize = 1024;

/// Longest text of a file's or a server's that a refusal quotes, in characters: names that are meant
/// to be read are shorter, and refusals are kept, logged and told in many copies.
pub const QUOTED_CHARACTERS: usize = 256;

/// Most keys, or roles, that one refusal lists, for the same reason as [`QUOTED_CHARACTERS`].
pub const LISTED: usize = 8;

/// Largest RSA modulus accepted, in bits. Source: aws-lc's `RSA_PSS_2048_8192_*`.
pub const RSA_BITS: usize = 8192;

/// Longest reference string, in bytes: a 255-byte name, a 128-byte tag and a sha512 digest, and
/// room for Docker Hub's short forms.
pub const REFERENCE_BYTES: usize = 1024;

/// Most authorities in one policy, so that counting independent ones stays exact and cheap.
pub const AUTHORITIES: usize = 16;

/// Most memory that the values of one metadata file may take while it is read, in the file's own
/// lengths: a role that a snapshot lists by nothing but its version takes five, a tag three. As
/// lists grow and are copied it may be three times as much for a moment.
pub const JSON_FOOTPRINT: u64 = 8;

/// The same in bytes, for a file of any length: 200,000 tags in [`TARGETS_BYTES`] take 48 MiB.
pub const JSON_BYTES: u64 = 64 << 20;

/// Of so many bytes a few short values take less than is worth counting.
const JSON_BYTES_OF_ANY: u64 = 64 << 10;

/// Most memory, in bytes, that the values of a file of this length may take.
pub(crate) fn json_bytes(length: u64) -> u64 {
    (length.saturating_mul(JSON_FOOTPRINT) + JSON_BYTES_OF_ANY).min(JSON_BYTES)
}

/// Older roots asked for at once, when the newest is not signed by pinned keys: so many files of
/// [`ROOT_BYTES`] are held at a time. Each batch is a round trip, at most 32 for
/// [`ROOT_ROTATIONS`]; a repository has one rotation or two.
pub const ROOT_BATCH: u64 = 8;

/// How far ahead a root certificate's NotBefore may be, in hours. Source: notary's Go client
/// (`ValidateCertificate`, one day).
pub const CERTIFICATE_AHEAD_HOURS: i64 = 24;

/// Most delegations that one targets file may list, loaded or not, so that a lookup's work stays
/// bounded: well above [`DELEGATIONS`].
pub const DELEGATIONS_LISTED: usize = 256;

/// Most path prefixes of one delegation, for the same reason as [`DELEGATIONS_LISTED`].
pub const DELEGATION_PATHS: usize = 256;

/// Most steps that comparing one lookup's names with the paths of TUF 1.0 delegations may take: a
/// path whose components are literal takes a handful, so ten thousand of them fit; a millisecond.
pub const TUF_GLOB_STEPS: u64 = 1 << 18;

/// Most tags of one role that are looked up for one digest, before it is refused: a digest has a
/// handful of tags, and the first that resolves to it is enough.
pub const DIGEST_TAGS: usize = 256;

/// Largest TUF 1.0 root file read, in bytes. Source: python-tuf (`root_max_length`).
pub const TUF_ROOT_BYTES: u64 = 512_000;

/// Largest TUF 1.0 timestamp file read, in bytes. Source: python-tuf (`timestamp_max_length`).
pub const TUF_TIMESTAMP_BYTES: u64 = 16_384;

/// Largest TUF 1.0 snapshot file read, in bytes: 32,768 hashed bins, as python-tuf lists them with
/// lengths and hashes, in 135 bytes each. Its own limit, 2,000,000, is for snapshots whose length
/// the timestamp does not list.
pub const TUF_SNAPSHOT_BYTES: u64 = 5_000_000;

/// Largest TUF 1.0 targets file read, in bytes. Source: python-tuf (`targets_max_length`).
pub const TUF_TARGETS_BYTES: u64 = 5_000_000;

/// Largest sum of the files of one TUF 1.0 repository that is kept, in bytes: 100,000 targets in
/// 16,384 hashed bins are some 40 MB when all of them are loaded.
pub const TUF_REPOSITORY_BYTES: u64 = 64 << 20;

/// Most delegations that one TUF 1.0 targets file may list: twice the 16,384 hashed bins of the
/// largest repositories that Rugged writes. [`DELEGATIONS`] bounds how many of them one lookup
/// visits.
pub const TUF_DELEGATIONS_LISTED: usize = 32_768;

/// Most paths or hash prefixes of one TUF 1.0 delegation: a bin of two has eight prefixes, and
/// one that is put together of whole ranges some hundreds.
pub const TUF_DELEGATION_PATHS: usize = 4_096;

/// Longest number of a succinct hash bin, in bits. Source: TAP 15 (`bit_length`, 1 to 32).
pub const SUCCINCT_BITS: u32 = 32;

/// Most roles that a TUF 1.0 snapshot may list for the version of each to be remembered across
/// restarts; of one with more, the timestamp's, its own and that of `targets` are. Source: the
/// rules by which the API server keeps checkpoints compare every two of their roles, of which
/// there may be 128, those included that were seen under other keys.
pub const REMEMBERED_ROLES: usize = 96;

/// Longest escaped name of a role whose version is remembered across restarts, in bytes, for the
/// same reason as [`REMEMBERED_ROLES`].
pub const REMEMBERED_NAME_BYTES: usize = 512;
