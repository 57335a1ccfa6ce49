//! Regular files that others may have put there: opened without waiting, read up to a bound; and
//! locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Opens a regular file. Does not wait for a pipe's writer, also where the pipe takes the place of
/// a file meanwhile; may block for as long as the file system does.
///
/// # Errors
/// Where it cannot be opened, or is not a regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    // What was opened, not what has the name by now.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Reads a regular file of at most `max_bytes`. May block for as long as the file system does.
///
/// # Errors
/// Where it cannot be read, or is not a regular file; [`io::ErrorKind::FileTooLarge`] where it is
/// longer.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let message = format!("it is longer than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// How often a lock that another process holds is tried.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Holds a lock until the file is dropped, also against other processes; `None` where another one
/// has held it for this time. Makes the file where there is none; what is no regular file, or is
/// elsewhere, is not touched.
///
/// # Errors
/// Where the file cannot be opened or locked.
pub(crate) fn lock(path: &Path, time: Duration) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if begun.elapsed() < time => thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t9_a_pipe_is_not_waited_for_and_a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("run");
        assert!(made.success());
        assert_eq!(open(&pipe).expect_err("a pipe").to_string(), "it is not a regular file");
        assert!(open(folder.path()).is_err());
        assert!(lock(&pipe, Duration::ZERO).is_err());
        let (link, elsewhere) = (folder.path().join("link"), folder.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
        assert!(lock(&link, Duration::ZERO).is_err());
        assert!(!elsewhere.exists());
        std::fs::write(&file, "12345").expect("written");
        assert_eq!(read(&file, 5).expect("read"), b"12345");
        assert_eq!(read(&file, 4).expect_err("long").kind(), io::ErrorKind::FileTooLarge);
    }
}
