//! Where a source's metadata is, connected.

use std::sync::Arc;

use url::Url;

use super::tuf::{Mirror, Mirrors};
use crate::api::{Connection, Source, SourceKind};
use crate::http::{Basic, Endpoint, EndpointConfig, EndpointError};

/// What a source's metadata is fetched from. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Servers {
    Notary {
        endpoint: Endpoint,
        /// The path that its API is below, without a slash at its end.
        prefix: String,
    },
    Tuf(Arc<Mirrors>),
}

impl Servers {
    /// Contacts nobody.
    pub(super) fn of(source: &Source) -> Result<Self, EndpointError> {
        let connection = &source.connection;
        let mirrors = match &source.kind {
            SourceKind::Notary { url, .. } => {
                let prefix = url.path().trim_end_matches('/').to_owned();
                return Ok(Self::Notary { endpoint: endpoint(url, connection)?, prefix });
            }
            SourceKind::Tuf { mirrors, .. } => mirrors,
        };
        let mirror = |url: &Url| match Mirror::folder(url) {
            Some(folder) => Ok(folder),
            None => Ok(Mirror::at(url, endpoint(url, connection)?)),
        };
        let mirrors: Result<Vec<Mirror>, EndpointError> = mirrors.iter().map(mirror).collect();
        Ok(Self::Tuf(Arc::new(Mirrors::new(mirrors?))))
    }
}

/// A source's server.
pub fn endpoint(url: &Url, connection: &Connection) -> Result<Endpoint, EndpointError> {
    let mut base = url.clone();
    base.set_path("/");
    Endpoint::new(EndpointConfig {
        base,
        ca_pem: connection.ca_pem.clone(),
        credentials: connection.credentials(url).map(|credentials| Basic {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        }),
        token_hosts: connection.token_hosts.clone(),
    })
}
