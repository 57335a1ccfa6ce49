//! What runs in the pods of the tests. `serve` answers HTTP on port 8080 with the pod's name until
//! SIGTERM; `files FOLDER` serves a folder's files over TLS on port 8443; `ask app.payments.svc:80` prints what the server there answers; alone it only waits for
//! SIGTERM, as a pod's own container does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Component, Path, PathBuf};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;
use countersign_e2e::{Context, Failure, Outcome, http};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let work = async {
        match words[..] {
            [] => std::future::pending().await,
            ["serve"] => serve().await,
            ["files", folder] => files(folder).await,
            ["ask", server] => ask(server),
            _ => Err(Failure::new("usage: workload [serve | files FOLDER | ask HOST:PORT]")),
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = terminated.recv() => Ok(()),
    }
}

async fn serve() -> Outcome<()> {
    let name = std::env::var("HOSTNAME").unwrap_or_default();
    let router = Router::new().route("/", get(move || async move { name }));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).await.context("port 8080")?;
    Ok(axum::serve(listener, router).await?)
}

/// Serves what is in `FOLDER/files` with the certificate `FOLDER/tls.crt`.
async fn files(folder: &str) -> Outcome<()> {
    http::install_crypto();
    let folder = PathBuf::from(folder);
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let config = RustlsConfig::from_pem_file(certificate, key).await?;
    let router = Router::new().fallback(move |uri: Uri| async move {
        let path = Path::new(uri.path().trim_start_matches('/'));
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        match std::fs::read(folder.join("files").join(path)) {
            Ok(file) if plain => Ok(file),
            _ => Err(StatusCode::NOT_FOUND),
        }
    });
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443));
    Ok(axum_server::bind_rustls(address, config).serve(router.into_make_service()).await?)
}

fn ask(server: &str) -> Outcome<()> {
    let mut connection = TcpStream::connect(server).context(server)?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    println!("{}", answer.rsplit("\r\n").next().unwrap_or_default());
    Ok(())
}
