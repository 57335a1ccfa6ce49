//! Where a repository's files are: a server, or a folder that is mounted.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::time::Instant;
use url::Url;

use super::reads::Reads;
use crate::files;
use crate::http::{Ask, Endpoint, EndpointConfig, EndpointError, FetchError, Room, shown};

/// One place that has a repository's files. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Mirror {
    /// A server.
    Server {
        /// How to reach it.
        endpoint: Endpoint,
        /// The path of the folder with the files, without a slash at its end.
        prefix: String,
    },
    /// A folder. A file lies in it under its escaped name: none leads out of it.
    Folder(PathBuf),
}

impl Mirror {
    /// The folder at `url`, which is on the endpoint's server.
    pub fn at(url: &Url, endpoint: Endpoint) -> Self {
        Self::Server { endpoint, prefix: url.path().trim_end_matches('/').to_owned() }
    }

    /// The folder at an `http`, `https` or `file` URL, without credentials; certificates are those
    /// of the system.
    ///
    /// # Errors
    /// Where the URL is none of these, or the HTTP client cannot be made.
    pub fn plain(url: &Url) -> Result<Self, EndpointError> {
        let invalid = |reason: &str| {
            let (url, reason) = (shown(url), reason.to_owned());
            EndpointError::Base { url, reason }
        };
        if url.scheme() == "file" {
            let folder = Self::folder(url);
            return folder.ok_or_else(|| invalid("it is not file:/// and an absolute path"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has a query or fragment; only a folder's URL is wanted"));
        }
        let mut base = url.clone();
        base.set_path("/");
        let (ca_pem, credentials, token_hosts) = (None, None, Vec::new());
        let config = EndpointConfig { base, ca_pem, credentials, token_hosts };
        Ok(Self::at(url, Endpoint::also_plain(config)?))
    }

    /// The folder of a `file:` URL; `None` where it is not one of this machine.
    pub fn folder(url: &Url) -> Option<Self> {
        let plain = url.scheme() == "file" && url.query().is_none() && url.fragment().is_none();
        plain.then(|| url.to_file_path().ok()).flatten().map(Self::Folder)
    }

    /// Reads a file of at most `max_bytes`, which takes `room`, until the deadline. `path` is below
    /// the folder, and escaped as [`countersign_verify::tuf::file_name`] does it; slashes lead into
    /// folders.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] where there is none; and why it could not be had.
    pub async fn get(
        &self,
        path: &str,
        max_bytes: u64,
        room: Option<&Room>,
        deadline: Instant,
    ) -> Result<Bytes, FetchError> {
        match self {
            Self::Server { endpoint, prefix } => {
                let ask = Ask { accept: None, scope: None, max_bytes, room, deadline };
                Ok(endpoint.get(&format!("{prefix}/{path}"), &ask).await?.body)
            }
            Self::Folder(folder) => {
                let file = below(folder, path)?;
                let work = move || read(&file, max_bytes);
                let bytes = Reads::of(folder).run(deadline, work).await?;
                // Of one folder a few files are read at a time, each up to its limit.
                room.map_or(Ok(()), |room| room.take(bytes.len()))?;
                Ok(bytes)
            }
        }
    }
}

/// A file in a folder; refuses what could lead out of it.
pub(super) fn below(folder: &Path, path: &str) -> Result<PathBuf, FetchError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !path.split('/').all(plain) {
        return Err(FetchError::InvalidPath(path.to_owned()));
    }
    Ok(folder.join(path))
}

pub(super) fn failed(error: io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::NotFound => FetchError::NotFound,
        _ => FetchError::File(error.to_string()),
    }
}

/// Blocks.
fn read(path: &Path, max_bytes: u64) -> Result<Bytes, FetchError> {
    match files::read(path, max_bytes) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(FetchError::TooLarge { limit: max_bytes })
        }
        Err(error) => Err(failed(error)),
    }
}
