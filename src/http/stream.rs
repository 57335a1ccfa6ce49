//! A body that is read piece by piece, under the same bounds: for files that may be too large to hold.

use bytes::Bytes;
use http::Method;
use tokio::time::{Instant, timeout_at};

use super::exchange::Body;
use super::{Ask, Endpoint, FetchError};

/// A body of at most so many bytes, until a deadline.
#[derive(Debug)]
pub struct Stream {
    response: Option<reqwest::Response>,
    left: u64,
    limit: u64,
    deadline: Instant,
}

impl Endpoint {
    /// GET, with the body to be read from what it gives. A connection that breaks before the body
    /// begins is tried again, as by [`Endpoint::get`]; one that breaks within it is not.
    ///
    /// Fails with [`FetchError`] for every status but 200 to 299.
    pub async fn open(&self, path_and_query: &str, ask: &Ask<'_>) -> Result<Stream, FetchError> {
        let url = self.url(path_and_query)?;
        let reply = timeout_at(ask.deadline, self.authorized(Method::GET, url, ask, Body::Left));
        let response = reply.await.unwrap_or(Err(FetchError::Deadline))?.unread;
        let (limit, deadline) = (ask.max_bytes, ask.deadline);
        Ok(Stream { response, left: limit, limit, deadline })
    }
}

impl Stream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Where the connection breaks, the deadline passes, or the body is longer than was asked for.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let Some(response) = &mut self.response else { return Ok(None) };
        let chunk = timeout_at(self.deadline, response.chunk()).await;
        let chunk = chunk.map_err(|_| FetchError::Deadline)?.map_err(FetchError::from_client)?;
        let length = chunk.as_ref().map_or(0, Bytes::len) as u64;
        let too_large = FetchError::TooLarge { limit: self.limit };
        self.left = self.left.checked_sub(length).ok_or(too_large)?;
        Ok(chunk)
    }
}
