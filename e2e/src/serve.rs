//! Servers that a test writes itself, over TLS.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;

use crate::pki::Identity;
use crate::place::Place;
use crate::{Outcome, http};

/// A router that is being served; dropping it ends that.
pub struct Served {
    url: String,
    handle: Handle<SocketAddr>,
}

impl Served {
    /// Serves `router` on a free loopback port, on a thread of its own.
    pub fn start(router: Router, identity: &Identity) -> Outcome<Self> {
        Self::start_at(Place::LOOPBACK, router, identity)
    }

    /// As [`Self::start`], at this place.
    pub fn start_at(place: Place, router: Router, identity: &Identity) -> Outcome<Self> {
        http::install_crypto();
        let listener = TcpListener::bind((place.address(), 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("https://{}:{}", place.name(), listener.local_addr()?.port());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let config =
            runtime.block_on(RustlsConfig::from_pem_file(&identity.certificate, &identity.key))?;
        let handle = Handle::new();
        let ending = handle.clone();
        thread::spawn(move || {
            runtime.block_on(async move {
                if let Ok(server) = axum_server::from_tcp_rustls(listener, config) {
                    // It ends when the handle says so; a failure shows in its clients.
                    let _ = server.handle(ending).serve(router.into_make_service()).await;
                }
            });
        });
        Ok(Self { url, handle })
    }

    /// Its address: `https://localhost:PORT`, or the place's name and the port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The host and port of [`Self::url`].
    pub fn host(&self) -> &str {
        self.url.trim_start_matches("https://")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}
