//! Servers that a test writes itself, over TLS or not.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;

use crate::pki::Identity;
use crate::place::Place;
use crate::process::eventually;
use crate::{Outcome, http};

/// A router that is being served; dropping it ends that.
pub struct Served {
    address: SocketAddr,
    url: String,
    router: Router,
    door: Door,
}

/// What there is at the port.
enum Door {
    /// Nothing.
    Closed,
    /// The kernel takes connections, and nobody ever looks at them.
    Mute { _listener: TcpListener },
    /// The router.
    Open { handle: Handle<SocketAddr>, thread: JoinHandle<()> },
}

impl Served {
    /// Serves `router` on a free loopback port, on a thread of its own.
    pub fn start(router: Router, identity: &Identity) -> Outcome<Self> {
        Self::start_at(Place::LOOPBACK, router, identity)
    }

    /// As [`Self::start`], at this place.
    pub fn start_at(place: Place, router: Router, identity: &Identity) -> Outcome<Self> {
        http::install_crypto();
        Self::behind("https", place, router, Some(identity))
    }

    /// As [`Self::start`], without TLS.
    pub fn plain(router: Router) -> Outcome<Self> {
        Self::behind("http", Place::LOOPBACK, router, None)
    }

    fn behind(
        scheme: &str,
        place: Place,
        router: Router,
        identity: Option<&Identity>,
    ) -> Outcome<Self> {
        let port = place.free_port()?;
        let address = (place.address(), port).into();
        let url = format!("{scheme}://{}:{port}", place.name());
        let mut served = Self { address, url, router, door: Door::Closed };
        served.serve(identity)?;
        Ok(served)
    }

    /// Its address: `https://localhost:PORT`, or the place's name and the port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The host and port of [`Self::url`].
    pub fn host(&self) -> &str {
        self.url.trim_start_matches("https://").trim_start_matches("http://")
    }

    /// The port of [`Self::url`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all connections, and refuses new ones.
    pub fn close(&mut self) {
        if let Door::Open { handle, thread } = std::mem::replace(&mut self.door, Door::Closed) {
            handle.shutdown();
            // A panic of its shows in its clients.
            let _ = thread.join();
        }
    }

    /// Ends all connections; new ones are taken, and that is all that is ever heard on them.
    pub fn mute(&mut self) -> Outcome<()> {
        self.close();
        self.door = Door::Mute { _listener: self.listener()? };
        Ok(())
    }

    /// Ends all connections, and serves with this certificate.
    pub fn open(&mut self, identity: &Identity) -> Outcome<()> {
        self.serve(Some(identity))
    }

    /// A program that a test starts has, until it runs, a copy of every socket that is open then:
    /// what was closed in the meantime goes on listening until that program runs.
    fn listener(&self) -> Outcome<TcpListener> {
        let bind = || Ok(TcpListener::bind(self.address));
        let in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let bound = eventually("the port", bind, |bound| !bound.as_ref().is_err_and(in_use))?;
        Ok(bound?)
    }

    fn serve(&mut self, identity: Option<&Identity>) -> Outcome<()> {
        self.close();
        let listener = self.listener()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tls = match identity {
            Some(Identity { certificate, key, .. }) => {
                Some(runtime.block_on(RustlsConfig::from_pem_file(certificate, key))?)
            }
            None => None,
        };
        let handle = Handle::new();
        let (ending, router) = (handle.clone(), self.router.clone());
        let thread = thread::spawn(move || {
            // It ends when the handle says so; a failure shows in its clients.
            let _ = runtime.block_on(async move {
                let service = router.into_make_service();
                match tls {
                    Some(tls) => {
                        let server = axum_server::from_tcp_rustls(listener, tls)?;
                        server.handle(ending).serve(service).await
                    }
                    None => axum_server::from_tcp(listener)?.handle(ending).serve(service).await,
                }
            });
            // What never answers is not waited for.
            runtime.shutdown_background();
        });
        self.door = Door::Open { handle, thread };
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::pki::Authority;

    #[test]
    fn it_is_reopened_while_programs_are_started_beside_it() -> Outcome<()> {
        let folder = tempfile::tempdir()?;
        let identity = Authority::new(folder.path())?.server("served")?;
        let mut served = Served::start(Router::new(), &identity)?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        Command::new("true").status()?;
                    }
                    Outcome::Ok(())
                });
            }
            let reopened = (0..100).try_for_each(|_| {
                served.mute()?;
                served.open(&identity)
            });
            over.store(true, Ordering::Relaxed);
            reopened
        })
    }
}
