//! A network of a test's own, with an address, names and a name server that nobody else sees: what
//! is broken here is broken for this test only.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::place::Place;
use crate::process::run;
use crate::{Context, Outcome, tools};

/// Its address: not a loopback one, which no name may lead to.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Names a run inside, and the folder of its files.
const VARIABLE: &str = "COUNTERSIGN_TEST_NETWORK";

/// A name that begins so is looked up without an end.
const HANGING: &str = "hangs";

/// Makes the network, where `unshare` has made an empty one, and runs the rest of its arguments.
const ENTER: &str = "ip link set lo up && ip addr add \"$1/32\" dev lo && \
                     mount --bind \"$2/hosts\" /etc/hosts && \
                     mount --bind \"$2/resolv.conf\" /etc/resolv.conf && shift 2 && exec \"$@\"";

/// The network that this process is in.
pub struct Network {
    hosts: PathBuf,
    names: Vec<String>,
}

impl Network {
    /// Runs the test of this name, of the program that calls, once more in a network where all of
    /// these names lead to its address. `None` outside, once that is over: it has passed, or this
    /// machine is for what needs no networks (`KUBEBUILDER_ASSETS`); a failure where it failed.
    pub fn own(test: &str, names: &[String]) -> Outcome<Option<Self>> {
        if let Some(folder) = env::var_os(VARIABLE) {
            let hosts = Path::new(&folder).join("hosts");
            answer_questions()?;
            return Ok(Some(Self { hosts, names: names.to_vec() }));
        }
        if env::var_os(tools::ASSETS).is_some() {
            eprintln!("{} is set: no networks here, so this is not tested", tools::ASSETS);
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let lines: String = names.iter().map(|name| format!("{ADDRESS} {name}\n")).collect();
        fs::write(folder.path().join("hosts"), format!("127.0.0.1 localhost\n{lines}"))?;
        fs::write(folder.path().join("resolv.conf"), format!("nameserver {ADDRESS}\n"))?;
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "sh", "-c", ENTER, "sh", &ADDRESS.to_string()])
            .arg(folder.path())
            .arg(env::current_exe()?)
            .args(["--exact", test, "--nocapture"])
            .env(VARIABLE, folder.path());
        let finished = run(&mut command, "")?;
        println!("{}", finished.stdout);
        finished.success().context("in a network of its own, which takes root")?;
        Ok(None)
    }

    /// Where servers of this name listen; it has to be one of the names.
    pub fn place(&self, name: &str) -> Place {
        Place::named(ADDRESS, name)
    }

    /// From now on this name leads nowhere: its name server says so, or, for a name that begins
    /// with `hangs`, says nothing.
    pub fn forget(&self, name: &str) -> Outcome<()> {
        self.write(name, b"#")
    }

    /// From now on this name leads to the address again.
    pub fn remember(&self, name: &str) -> Outcome<()> {
        self.write(name, b"1")
    }

    /// One byte, so that nobody reads half of a change.
    fn write(&self, name: &str, first: &[u8; 1]) -> Outcome<()> {
        let hosts = fs::read_to_string(&self.hosts)?;
        let line = format!(" {name}\n");
        let known = self.names.iter().any(|known| known == name);
        let end = hosts.find(&line).filter(|_| known).context(format!("no name {name}"))?;
        let begin = hosts[..end].rfind('\n').map_or(0, |before| before + 1);
        let file = File::options().write(true).open(&self.hosts)?;
        Ok(file.write_all_at(first, begin as u64)?)
    }

    /// Drops whatever is sent to this port, also on connections that there are.
    pub fn drop_packets(&self, port: u16) -> Outcome<()> {
        let table = format!("drop{port}");
        let chain = "{ type filter hook input priority 0 ; }";
        nft(&format!("add table ip {table}"))?;
        nft(&format!("add chain ip {table} in {chain}"))?;
        nft(&format!("add rule ip {table} in tcp dport {port} drop"))
    }

    /// Lets through again what is sent to this port.
    pub fn pass_packets(&self, port: u16) -> Outcome<()> {
        nft(&format!("delete table ip drop{port}"))
    }
}

fn nft(command: &str) -> Outcome<()> {
    run(Command::new("nft").args(command.split(' ')), "")?.success().map(drop)
}

/// Answers every question for a name by that there is none, but for those that are to hang.
fn answer_questions() -> Outcome<()> {
    let socket = UdpSocket::bind((ADDRESS, 53)).context("the name server's port")?;
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let Some(answer) = no_such_name(&question[..length]) else { continue };
            // Who no longer listens asks again, if at all.
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(())
}

/// The answer (RFC 1035, section 4.1): the question, with the code for a name that does not exist.
fn no_such_name(question: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let name = question.get(HEADER..)?;
    if name.get(1..)?.starts_with(HANGING.as_bytes()) {
        return None;
    }
    // Labels end with an empty one; type and class follow.
    let asked = name.get(..name.iter().position(|byte| *byte == 0)? + 5)?;
    let id = question.get(..2)?;
    Some([id, &[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0], asked].concat())
}
