//! An HTTP proxy for `CONNECT` that knows a few names.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::Outcome;

/// A proxy on loopback. It serves until the test's process ends.
pub struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy that connects each of `names` (`HOST:PORT`) to another `HOST:PORT`, and
    /// nothing else.
    pub fn start(names: BTreeMap<String, String>) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, names) = (Arc::clone(&heads), Arc::new(names));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (seen, names) = (Arc::clone(&seen), Arc::clone(&names));
                // A connection that breaks shows in the client.
                thread::spawn(move || drop(connect(client, &seen, &names)));
            }
        });
        Ok(Self { port, heads })
    }

    /// Its address by this host, as `localhost`.
    pub fn url(&self, host: &str) -> String {
        format!("http://{host}:{}", self.port)
    }

    /// Serves at this Unix socket as well.
    pub fn listen_at(&self, socket: &Path) -> Outcome<()> {
        let listener = UnixListener::bind(socket)?;
        let port = self.port;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || drop(bridge(client, port)));
            }
        });
        Ok(())
    }

    /// The head of every request so far.
    pub fn heads(&self) -> Vec<String> {
        locked(&self.heads).clone()
    }
}

fn locked(heads: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    heads.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(
    mut client: TcpStream,
    seen: &Mutex<Vec<String>>,
    names: &BTreeMap<String, String>,
) -> io::Result<()> {
    // What follows the head is sent only after the answer, so the reader takes none of it.
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let name = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let target = name.and_then(|name| names.get(name));
    locked(seen).push(head.clone());
    let Some(target) = target else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    };
    let server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || pass(up_from, up_to));
    pass(server, client);
    let _ = up.join();
    Ok(())
}

fn bridge(client: UnixStream, port: u16) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut up_from, mut up_to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let _ = io::copy(&mut up_from, &mut up_to);
        let _ = up_to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (server, client);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = up.join();
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
