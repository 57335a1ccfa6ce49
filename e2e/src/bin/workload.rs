//! What runs in the pods of the tests: it serves its own name over HTTP on port 8080 until SIGTERM.

use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::get;
use countersign_e2e::{Context, Outcome};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let name = std::env::var("HOSTNAME").unwrap_or_default();
    let router = Router::new().route("/", get(move || async move { name }));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).await.context("port 8080")?;
    tokio::select! {
        served = axum::serve(listener, router) => Ok(served?),
        _ = terminated.recv() => Ok(()),
    }
}
