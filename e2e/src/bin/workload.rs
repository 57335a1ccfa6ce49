//! What runs in the pods of the tests. `serve` answers HTTP on port 8080 with the pod's name until
//! SIGTERM; `ask app.payments.svc:80` prints what the server there answers; alone it only waits for
//! SIGTERM, as a pod's own container does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use axum::Router;
use axum::routing::get;
use countersign_e2e::{Context, Failure, Outcome};
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
            ["ask", server] => ask(server),
            _ => Err(Failure::new("usage: workload [serve | ask HOST:PORT]")),
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

fn ask(server: &str) -> Outcome<()> {
    let mut connection = TcpStream::connect(server).context(server)?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    println!("{}", answer.rsplit("\r\n").next().unwrap_or_default());
    Ok(())
}
