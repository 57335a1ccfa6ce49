//! Servers that a test writes itself, over TLS or not.

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
        let (listener, address) = listen(place)?;
        let url = format!("https://{address}");
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

    /// As [`Self::start`], without TLS.
    pub fn plain(router: Router) -> Outcome<Self> {
        let (listener, address) = listen(Place::LOOPBACK)?;
        let url = format!("http://{address}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = Handle::new();
        let ending = handle.clone();
        thread::spawn(move || {
            runtime.block_on(async move {
                if let Ok(server) = axum_server::from_tcp(listener) {
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
        self.url.trim_start_matches("https://").trim_start_matches("http://")
    }
}

/// A free port of this place, and its name with the port.
fn listen(place: Place) -> Outcome<(TcpListener, String)> {
    let listener = TcpListener::bind((place.address(), 0))?;
    listener.set_nonblocking(true)?;
    let address = format!("{}:{}", place.name(), listener.local_addr()?.port());
    Ok((listener, address))
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}
