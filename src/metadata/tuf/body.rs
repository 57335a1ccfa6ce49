//! A target file that is read piece by piece: it may be too large to hold.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Mirror;
use super::mirror::{below, failed};
use super::reads::Reads;
use crate::files;
use crate::http::{Ask, FetchError, Stream};

/// Bytes of a mounted file that are read at a time.
const PIECE: usize = 64 << 10;

/// The body of a file.
#[derive(Debug)]
pub struct Body(Origin);

#[derive(Debug)]
enum Origin {
    Server(Stream),
    Folder {
        reads: Reads,
        file: Arc<File>,
        /// So many bytes may be read.
        limit: u64,
        /// So many of them are left.
        left: u64,
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
                let ask = Ask { accept: None, scope: None, max_bytes, room: None, deadline };
                let path = format!("{prefix}/{}", escaped(path));
                Ok(Body(Origin::Server(endpoint.open(&path, &ask).await?)))
            }
            Self::Folder(folder) => {
                let path = below(folder, path)?;
                let reads = Reads::of(folder);
                let open = move || files::open(&path).map(Arc::new).map_err(failed);
                let file = reads.run(deadline, open).await?;
                let (limit, left) = (max_bytes, max_bytes);
                Ok(Body(Origin::Folder { reads, file, limit, left, deadline }))
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
        match &mut self.0 {
            Origin::Server(stream) => stream.chunk().await,
            Origin::Folder { reads, file, limit, left, deadline } => {
                let file = Arc::clone(file);
                let read = move || {
                    let mut piece = vec![0; PIECE];
                    let length = (&*file).read(&mut piece).map_err(failed)?;
                    piece.truncate(length);
                    Ok::<_, FetchError>(piece)
                };
                let piece = reads.run(*deadline, read).await?;
                let too_large = FetchError::TooLarge { limit: *limit };
                *left = left.checked_sub(piece.len() as u64).ok_or(too_large)?;
                Ok((!piece.is_empty()).then(|| piece.into()))
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
