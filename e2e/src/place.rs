//! Where servers listen, and by which name others reach them.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::node::{self, mark};
use crate::{Failure, Outcome};

/// An address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    address: Ipv4Addr,
    name: &'static str,
}

impl Place {
    /// The loopback interface.
    pub const LOOPBACK: Self = Self { address: Ipv4Addr::LOCALHOST, name: "localhost" };

    /// The address of the node's bridge, by which its pods and this machine reach the same server.
    /// A server there is part of the node: taking the node down ends it.
    pub const NODE: Self = Self { address: node::ADDRESS, name: node::ADDRESS_NAME };

    /// Any other address of this machine.
    pub fn at(address: Ipv4Addr) -> Self {
        // As long as the program, which has one or two of them.
        Self { address, name: address.to_string().leak() }
    }

    /// An address of this machine, under a name that leads there.
    pub fn named(address: Ipv4Addr, name: &str) -> Self {
        Self { address, name: name.to_owned().leak() }
    }

    /// What to listen on.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The name that others use.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The command that starts a server here.
    pub fn command(self, program: &str) -> Command {
        if self == Self::NODE { mark::command(program, program) } else { Command::new(program) }
    }

    /// A port that nothing listens on. Below the range that the kernel takes the ports of outgoing
    /// connections from (32768 on Linux), so none of those can take it before the server does.
    pub fn free_port(self) -> Outcome<u16> {
        const FIRST: u16 = 20_000;
        const COUNT: u16 = 12_000;
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Test programs that run at the same time start looking in different places.
        let offset = (std::process::id() % u32::from(COUNT / 100)) as u16 * 100;
        for _ in 0..COUNT {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let port = FIRST + (offset + next) % COUNT;
            if TcpListener::bind((self.address, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(Failure::new(format!("no free port at {}", self.address)))
    }

    /// Whether something accepts connections on this port.
    pub fn listens(self, port: u16) -> bool {
        TcpStream::connect_timeout(&(self.address, port).into(), Duration::from_secs(1)).is_ok()
    }
}
