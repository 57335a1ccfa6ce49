//! The yardstick: axum over rustls, which reads a review and sends it back.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use countersign_e2e::pki::Authority;
use countersign_e2e::process::{Server, free_port, listens};
use countersign_e2e::{Context, Failure, Outcome};

const START: Duration = Duration::from_secs(10);

/// An echo in a process of its own, so that its memory is its own.
pub(crate) struct Echo {
    pub(crate) server: Server,
    pub(crate) port: u16,
}

impl Echo {
    /// Starts this program again as an echo.
    pub(crate) fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        let identity = authority.server("echo")?;
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo").arg(&identity.certificate).arg(&identity.key).arg(port.to_string());
        let server = Server::start("echo", &mut command, folder, START, || listens(port))?;
        Ok(Self { server, port })
    }
}

/// Serves until it is ended; the arguments are a certificate, its key and a port.
pub(crate) fn serve(arguments: &[String]) -> Outcome<()> {
    let [certificate, key, port] = arguments else {
        return Err(Failure::new("usage: echo CERTIFICATE KEY PORT"));
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse::<u16>()?))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = RustlsConfig::from_pem_file(certificate, key).await?;
        let app = Router::new().route("/validate", post(echo));
        let tls = RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new());
        let server = axum_server::from_tcp(listener)?.acceptor(tls);
        server.serve(app.into_make_service()).await.context("serving")
    })
}

async fn echo(body: Bytes) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], body)
}
