//! Target files: read, verified and stored in one go, and only then given their names.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use countersign_verify::tuf::{Target, file_name};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use url::Url;

use super::folder::{NAME_BYTES, Partial};
use crate::files;
use crate::http::FetchError;
use crate::metadata::tuf::Mirror;

/// How long a small target file may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The slowest that a large one may come, in bytes a second: slower is as good as not at all.
const SLOWEST: u64 = 50 << 10;

/// Bytes of a stored file that are read at a time.
const PIECE: usize = 64 << 10;

/// How long a download takes before a terminal is told how far it is, and how often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Begins the line on a terminal anew.
const ANEW: &str = "\r\x1b[K";

/// Where target files come from and go to.
#[derive(Debug)]
pub(super) struct Downloads<'a> {
    url: &'a Url,
    mirror: Mirror,
    folder: &'a Path,
}

/// A stored target file.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    /// Whether it was there already.
    pub(super) before: bool,
}

impl<'a> Downloads<'a> {
    pub(super) fn new(url: &'a Url, folder: &'a Path) -> Result<Self, String> {
        let mirror = Mirror::plain(url).map_err(|error| format!("--target-base-url: {error}"))?;
        if !folder.is_dir() {
            return Err(format!(
                "--target-dir: {} is not a folder; make it first, or name another one",
                folder.display()
            ));
        }
        Ok(Self { url, mirror, folder })
    }

    /// Stores a target file, unless it is there already. Where the repository is `consistent` the
    /// server has it under its hash.
    pub(super) async fn store(
        &self,
        name: &str,
        target: &Target,
        consistent: bool,
    ) -> Result<Stored, String> {
        let path = self.folder.join(stored_name(name)?);
        let Some(hash) = first_hash(target) else {
            return Err(format!(
                "{name:?}: {} lists no hash of it that is known here (sha256, sha512), so nothing \
                 can vouch for the file",
                target.role
            ));
        };
        if is_stored(&path, target).await {
            return Ok(Stored { path, before: true });
        }
        let served = if consistent { prefixed(name, &hash) } else { name.to_owned() };
        self.fetch(&served, target, &path).await?;
        Ok(Stored { path, before: false })
    }

    async fn fetch(&self, served: &str, target: &Target, path: &Path) -> Result<(), String> {
        let told = |error: FetchError| match error {
            FetchError::TooLarge { .. } => format!(
                "{}: {served}: it is longer than the {} bytes that {} lists; the server has \
                 another file than was signed",
                self.url, target.length, target.role
            ),
            error => format!("{}: {served}: {error}", self.url),
        };
        let stores = |error: std::io::Error| format!("{}: {error}", path.display());
        let deadline = Instant::now() + TIMEOUT + Duration::from_secs(target.length / SLOWEST);
        let mut body = self.mirror.open(served, target.length, deadline).await.map_err(told)?;
        let mut partial = Partial::create(self.folder).map_err(stores)?;
        let (mut check, mut progress) = (Check::default(), Progress::new(served, target.length));
        while let Some(piece) = body.chunk().await.map_err(told)? {
            check.update(&piece);
            partial.file.write_all(&piece).map_err(stores)?;
            progress.tell(check.length);
        }
        if !check.is(target) {
            return Err(format!(
                "{}: {served}: its length or hash is not what {} lists; the server has another \
                 file than was signed",
                self.url, target.role
            ));
        }
        partial.persist(path).map_err(stores)
    }
}

/// The name of a target's file: one in the folder, whatever the target's is.
fn stored_name(name: &str) -> Result<String, String> {
    let escaped = match name {
        "" => return Err("--target-name: it is empty".to_owned()),
        // These two would be the folder itself and the one around it.
        "." | ".." => name.replace('.', "%2E"),
        name => file_name(name),
    };
    if escaped.len() > NAME_BYTES {
        return Err(format!("{name:?}: escaped, its name is too long for a file"));
    }
    Ok(escaped)
}

fn first_hash(target: &Target) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let sha512 = || target.sha512.as_ref().map(|hash| hex(hash));
    target.sha256.as_ref().map(|hash| hex(hash)).or_else(sha512)
}

/// 5.7.3: the hash goes before the name of the file, in its folder.
fn prefixed(name: &str, hash: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{hash}.{file}"),
        None => format!("{hash}.{name}"),
    }
}

/// Whether the file is there, of the right length and hash.
async fn is_stored(path: &Path, target: &Target) -> bool {
    let Ok(file) = files::open(path) else { return false };
    if !file.metadata().is_ok_and(|metadata| metadata.len() == target.length) {
        return false;
    }
    let mut file = tokio::fs::File::from_std(file);
    let (mut check, mut piece) = (Check::default(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).await {
            Ok(0) => return check.is(target),
            // It may grow while it is read.
            Ok(length) if check.length + length as u64 <= target.length => {
                check.update(&piece[..length]);
            }
            Ok(_) | Err(_) => return false,
        }
    }
}

/// The length and hashes of what has been read.
struct Check {
    length: u64,
    sha256: Context,
    sha512: Context,
}

impl Default for Check {
    fn default() -> Self {
        Self { length: 0, sha256: Context::new(&SHA256), sha512: Context::new(&SHA512) }
    }
}

impl Check {
    fn update(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        self.sha256.update(piece);
        self.sha512.update(piece);
    }

    fn is(self, target: &Target) -> bool {
        let (sha256, sha512) = (self.sha256.finish(), self.sha512.finish());
        self.length == target.length
            && (target.sha256.is_some() || target.sha512.is_some())
            && target.sha256.is_none_or(|hash| hash == sha256.as_ref())
            && target.sha512.is_none_or(|hash| hash == sha512.as_ref())
    }
}

/// Tells a terminal how far a long download is.
struct Progress<'a> {
    name: &'a str,
    total: u64,
    /// `None` where there is no terminal.
    next: Option<Instant>,
    told: bool,
}

impl<'a> Progress<'a> {
    fn new(name: &'a str, total: u64) -> Self {
        let next = std::io::stderr().is_terminal().then(|| Instant::now() + TOLD_EVERY);
        Self { name, total, next, told: false }
    }

    fn tell(&mut self, length: u64) {
        let Some(next) = self.next.filter(|next| Instant::now() >= *next) else { return };
        let (name, percent) = (self.name, length.saturating_mul(100) / self.total.max(1));
        eprint!("{ANEW}{} {percent}% of {} bytes", name.escape_debug(), self.total);
        self.next = Some(next + TOLD_EVERY);
        self.told = true;
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.told {
            eprint!("{ANEW}");
        }
    }
}
