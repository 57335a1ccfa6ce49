//! A target file that is read piece by piece: it may be too large to hold.

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};

use super::Mirror;
use super::mirror::{below, failed, open};
use crate::http::{Ask, FetchError, Stream};

/// Bytes of a mounted file that are read at a time.
const PIECE: usize = 64 << 10;

/// The body of a file.
#[derive(Debug)]
pub enum Body {
    /// From a server.
    Server(Stream),
    /// From a folder.
    Folder {
        /// The file.
        file: File,
        /// So many bytes may be read.
        limit: u64,
        /// So many of them are left.
        left: u64,
        /// Until when.
        deadline: Instant,
    },
}

impl Mirror {
    /// Opens a file of at most `max_bytes`, to be read until the deadline. `path` is below the
    /// folder; at a server its components are escaped, in a mounted folder they are not.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] where there is none; and why it could not be had.
    pub async fn open(
        &self,
        path: &str,
        max_bytes: u64,
        deadline: Instant,
    ) -> Result<Body, FetchError> {
        match self {
            Self::Server { endpoint, prefix } => {
                let ask = Ask { accept: None, scope: None, max_bytes, deadline };
                let path = format!("{prefix}/{}", escaped(path));
                Ok(Body::Server(endpoint.open(&path, &ask).await?))
            }
            Self::Folder(folder) => {
                let path = below(folder, path)?;
                let opening = tokio::task::spawn_blocking(move || open(&path));
                let opened =
                    timeout_at(deadline, opening).await.map_err(|_| FetchError::Deadline)?;
                let file = opened.map_err(|ended| FetchError::File(ended.to_string()))??;
                let file = File::from_std(file);
                Ok(Body::Folder { file, limit: max_bytes, left: max_bytes, deadline })
            }
        }
    }
}

impl Body {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Where it cannot be read, the deadline passes, or it is longer than was asked for.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        match self {
            Self::Server(stream) => stream.chunk().await,
            Self::Folder { file, limit, left, deadline } => {
                let mut piece = vec![0; PIECE];
                let read = timeout_at(*deadline, file.read(&mut piece)).await;
                let length = read.map_err(|_| FetchError::Deadline)?.map_err(failed)?;
                let too_large = FetchError::TooLarge { limit: *limit };
                *left = left.checked_sub(length as u64).ok_or(too_large)?;
                piece.truncate(length);
                Ok((length > 0).then(|| piece.into()))
            }
        }
    }
}

/// A path as an URL has it: every byte that RFC 3986 does not allow within a component is escaped.
fn escaped(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
