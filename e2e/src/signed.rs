//! Repositories as a Notary server has them, signed here: as many as are wanted, each for as long as
//! is wanted, which a real server gives nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::json;

use crate::builder::{self, Repo, sha256};
use crate::front;
use crate::signer::{Cert, Signer};

/// Their files, by path. Clones share them.
#[derive(Clone, Default)]
pub struct Signed {
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Signed {
    /// Repositories of these names, in each of which `content` is signed as 1.0 until then; and the
    /// public key of all their roots, in PEM.
    pub fn many(
        names: impl IntoIterator<Item = String>,
        content: &str,
        until: Timestamp,
    ) -> (Self, String) {
        let (signed, mut repo) = (Self::default(), Repo::new(""));
        repo.targets(&[("1.0", content)]);
        for name in names {
            repo.root_key = repo.root_key.certified(&certificate(&name));
            let root = repo.root(1, std::slice::from_ref(&repo.root_key), 1);
            repo.roots.insert(1, root);
            for role in ["root", "timestamp", "snapshot", "targets"] {
                repo.set(role, "expires", json!(until.to_string()));
            }
            signed.put(&name, &repo.seal());
        }
        (signed, public_key(&repo.root_key))
    }

    /// Has these files of the repository of this name from now on, also by their hashes.
    pub fn put(&self, name: &str, sealed: &builder::Files) {
        let roles = sealed.roles.iter().map(|(role, bytes)| (role.as_str(), bytes.as_slice()));
        let top = [
            ("root", sealed.root()),
            ("timestamp", &sealed.timestamp),
            ("snapshot", &sealed.snapshot),
        ];
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (role, bytes) in roles.chain(top) {
            let hash: String = sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            for role in [role.to_owned(), format!("{role}.{hash}")] {
                files.insert(front::path(name, &role), bytes.to_vec());
            }
        }
    }

    /// What answers as a Notary server that has these files.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }
}

/// A root key's certificate for the repository of this name, which expires in no test.
pub fn certificate(name: &str) -> Cert {
    Cert { from: (2020, 1, 1), until: (2100, 1, 1), ..Cert::named(name) }
}

/// A key in PEM, as a pin has it.
pub fn public_key(key: &Signer) -> String {
    let text = BASE64_STANDARD.encode(key.spki());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

async fn answer(State(signed): State<Signed>, uri: Uri) -> Result<Vec<u8>, StatusCode> {
    let files = signed.files.lock().unwrap_or_else(PoisonError::into_inner);
    files.get(uri.path()).cloned().ok_or(StatusCode::NOT_FOUND)
}
