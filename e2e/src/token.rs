//! A token server as distribution's token authentication has it: a challenge names it, a client
//! asks it for a scope, and it answers with a signed JWT.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rcgen::KeyPair;
use reqwest::Url;
use serde_json::{Value, json};

use crate::pki::{Authority, Identity};
use crate::serve::Served;
use crate::{Context, Failure, Outcome};

/// How long a token is good, in seconds.
const LIFETIME: i64 = 300;

/// The user that may push and pull everything.
pub const USER: &str = "signer";

/// The user's password.
pub const PASSWORD: &str = "countersign-test-password";

/// A running token server. It gives `pull` to anyone where [`TokenServer::start`] was told so, and
/// everything to [`USER`]; it answers 401 to a wrong password.
pub struct TokenServer {
    issuer: Arc<Issuer>,
    served: Served,
    options: BTreeMap<&'static str, String>,
}

struct Issuer {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
    anonymous_pull: bool,
    scopes: Mutex<Vec<String>>,
}

const ISSUER: &str = "countersign-test-issuer";
const SERVICE: &str = "countersign-test-service";

impl TokenServer {
    /// Starts a token server on loopback, over TLS.
    pub fn start(folder: &Path, authority: &Authority, anonymous_pull: bool) -> Outcome<Self> {
        let identity = crate::pki::self_signed(folder, "token-signer")?;
        let issuer = Arc::new(Issuer::new(&identity, anonymous_pull)?);
        let router = Router::new().route("/token", get(token)).with_state(Arc::clone(&issuer));
        let served = Served::start(router, &authority.server("token-server")?)?;
        let options = BTreeMap::from([
            ("realm", format!("{}/token", served.url())),
            ("service", SERVICE.to_owned()),
            ("issuer", ISSUER.to_owned()),
            ("rootcertbundle", identity.certificate.display().to_string()),
        ]);
        Ok(Self { issuer, served, options })
    }

    /// `localhost:PORT`, as `tokenHosts` names it.
    pub fn host(&self) -> &str {
        self.served.host()
    }

    /// The `auth.token` section for notary-server and docker-registry.
    pub fn options(&self) -> Value {
        json!(self.options)
    }

    /// The scopes asked for so far, in order.
    pub fn scopes(&self) -> Vec<String> {
        self.issuer.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn token(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let user = match user(&headers) {
        Ok(user) => user,
        Err(status) => return status.into_response(),
    };
    match issuer.answer(user.as_deref(), &query.unwrap_or_default()) {
        Ok(answer) => ([(CONTENT_TYPE, "application/json")], answer.to_string()).into_response(),
        Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()).into_response(),
    }
}

/// The authenticated user; `None` where no credentials were sent.
fn user(headers: &HeaderMap) -> Result<Option<String>, StatusCode> {
    let Some(header) = headers.get("authorization") else { return Ok(None) };
    let wanted = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if header.as_bytes() == wanted.as_bytes() {
        Ok(Some(USER.to_owned()))
    } else {
        Err(StatusCode::UNAUTHORIZED)
    }
}

impl Issuer {
    fn new(identity: &Identity, anonymous_pull: bool) -> Outcome<Self> {
        let pem = fs::read_to_string(&identity.key)?;
        let pkcs8 = KeyPair::from_pem(&pem)?.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
            .map_err(|error| Failure::new(format!("the token key: {error}")))?;
        let certificate =
            crate::notary_client::pem_body(&fs::read_to_string(&identity.certificate)?)?;
        Ok(Self { key, certificate, anonymous_pull, scopes: Mutex::default() })
    }

    fn answer(&self, user: Option<&str>, query: &str) -> Outcome<Value> {
        let url = Url::parse(&format!("https://localhost/?{query}"))?;
        let mut access = Vec::new();
        for (name, value) in url.query_pairs() {
            if name != "scope" {
                continue;
            }
            self.scopes.lock().unwrap_or_else(PoisonError::into_inner).push(value.to_string());
            // A repository's name holds a colon where its registry has a port.
            let (kind, rest) = value.split_once(':').context("a scope without a type")?;
            let (name, actions) = rest.rsplit_once(':').context("a scope without actions")?;
            let granted: Vec<&str> = actions
                .split(',')
                .filter(|action| user.is_some() || (self.anonymous_pull && *action == "pull"))
                .collect();
            access.push(json!({"type": kind, "name": name, "actions": granted}));
        }
        let token = self.sign(user.unwrap_or_default(), &access)?;
        Ok(json!({"token": token, "access_token": token, "expires_in": LIFETIME}))
    }

    fn sign(&self, subject: &str, access: &[Value]) -> Outcome<String> {
        let now = Timestamp::now().as_second();
        let header =
            json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)]});
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": SERVICE, "iat": now, "nbf": now - 10,
            "exp": now + LIFETIME, "jti": format!("{now}"), "access": access,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|error| Failure::new(format!("signing a token: {error}")))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
