//! The real `notary` client: it signs, revokes, rotates and delegates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::notary::Notary;
use crate::pki::Identity;
use crate::process::{Finished, run};
use crate::registry::sha256;
use crate::{Context, Outcome, token};

/// The passphrase of every key that the client holds.
const PASSPHRASE: &str = "countersign-test-passphrase";

/// A signer: the `notary` client with its own keys and its own trust folder.
pub struct NotaryClient {
    home: PathBuf,
}

/// Who keeps a role's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The signer.
    Client,
    /// The server: possible for the snapshot, and always so for the timestamp.
    Server,
}

impl NotaryClient {
    /// A signer whose home folder is `home`, working on this server.
    pub fn new(home: &Path, notary: &Notary) -> Outcome<Self> {
        Self::at(home, notary.url(), notary.authority())
    }

    /// A signer working on the server at `url`, whose certificate is from `authority` (PEM).
    pub fn at(home: &Path, url: &str, authority: &Path) -> Outcome<Self> {
        let folder = home.join(".notary");
        fs::create_dir_all(&folder)?;
        let config = json!({"remote_server": {"url": url, "root_ca": authority}});
        fs::write(folder.join("config.json"), config.to_string())?;
        Ok(Self { home: home.to_owned() })
    }

    /// `notary` with these arguments: its home folder names the server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("notary");
        command
            .args(arguments)
            .env("HOME", &self.home)
            .env("NOTARY_AUTH", STANDARD.encode(format!("{}:{}", token::USER, token::PASSWORD)));
        for role in ["ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"] {
            command.env(format!("NOTARY_{role}_PASSPHRASE"), PASSPHRASE);
        }
        command
    }

    /// Runs `notary` with these arguments; fails where it does.
    pub fn run(&self, arguments: &[&str]) -> Outcome<Finished> {
        run(&mut self.command(arguments), "")?.success()
    }

    /// Starts a repository, with a new root key where this signer has none yet.
    pub fn init(&self, gun: &str) -> Outcome<()> {
        self.run(&["init", "-p", gun]).map(drop)
    }

    /// Signs a tag for a digest (`sha256:...`) and a manifest size in bytes, and publishes it.
    pub fn sign(&self, gun: &str, tag: &str, digest: &str, size: u64) -> Outcome<()> {
        self.sign_in(gun, tag, digest, size, &[])
    }

    /// As [`Self::sign`], in these delegated roles instead of `targets`.
    pub fn sign_in(
        &self,
        gun: &str,
        tag: &str,
        digest: &str,
        size: u64,
        roles: &[&str],
    ) -> Outcome<()> {
        let hex = digest.strip_prefix("sha256:").context("not a sha256 digest")?;
        let size = size.to_string();
        let mut arguments = vec!["addhash", "-p", gun, tag, &size, "--sha256", hex];
        arguments.extend(roles.iter().flat_map(|role| ["-r", role]));
        self.run(&arguments).map(drop)
    }

    /// Takes a tag's signature away, and publishes that.
    pub fn revoke(&self, gun: &str, tag: &str) -> Outcome<()> {
        self.run(&["remove", "-p", gun, tag]).map(drop)
    }

    /// As [`Self::revoke`], in a delegated role.
    pub fn revoke_in(&self, gun: &str, tag: &str, role: &str) -> Outcome<()> {
        self.run(&["remove", "-p", gun, tag, "-r", role]).map(drop)
    }

    /// Replaces a role's key by a new one.
    pub fn rotate(&self, gun: &str, role: &str, keeper: Keeper) -> Outcome<()> {
        let mut arguments = vec!["key", "rotate", gun, role];
        if keeper == Keeper::Server {
            arguments.push("-r");
        }
        // Rotating a root asks whether one is sure.
        run(&mut self.command(&arguments), "yes\n")?.success()?;
        // The client takes its own new root up only when it reads the next time.
        self.run(&["list", gun]).map(drop)
    }

    /// Delegates a role to the holders of these certificates, for every tag.
    pub fn delegate(&self, gun: &str, role: &str, signers: &[&Identity]) -> Outcome<()> {
        let files: Vec<String> =
            signers.iter().map(|signer| signer.certificate.display().to_string()).collect();
        let mut arguments = vec!["delegation", "add", "-p", gun, role];
        arguments.extend(files.iter().map(String::as_str));
        arguments.push("--all-paths");
        self.run(&arguments).map(drop)
    }

    /// Takes a delegated role away.
    pub fn undelegate(&self, gun: &str, role: &str) -> Outcome<()> {
        self.run(&["delegation", "remove", "-p", "-y", gun, role]).map(drop)
    }

    /// Takes a delegated role away from the holder of a certificate (a PEM file).
    pub fn remove_key(&self, gun: &str, role: &str, certificate: &Path) -> Outcome<()> {
        let id = key_id(&public_key_of(&fs::read_to_string(certificate)?)?)?;
        self.run(&["delegation", "remove", "-p", gun, role, &id]).map(drop)
    }

    /// Gives this signer the key of a delegated role.
    pub fn import(&self, gun: &str, role: &str, signer: &Identity) -> Outcome<()> {
        let key = signer.key.display().to_string();
        self.run(&["key", "import", &key, "--role", role, "-g", gun]).map(drop)
    }

    /// Signs a delegated role's file anew as it is, as after a change of its keys.
    pub fn witness(&self, gun: &str, role: &str) -> Outcome<()> {
        self.run(&["witness", "-p", gun, role]).map(drop)
    }

    /// Publishes what is staged.
    pub fn publish(&self, gun: &str) -> Outcome<()> {
        self.run(&["publish", gun]).map(drop)
    }

    /// The public key (PEM) that a pin for this repository names: the one inside the certificate
    /// of its current root, as the signer itself knows it.
    pub fn pin(&self, gun: &str) -> Outcome<String> {
        let root = self.home.join(".notary/tuf").join(gun).join("metadata/root.json");
        let root = fs::read(&root).context(root.display())?;
        public_key_of_root(&serde_json::from_slice(&root)?)
    }
}

/// The public key, as PEM, inside the first root certificate that a `root.json` lists.
pub fn public_key_of_root(root: &Value) -> Outcome<String> {
    let id = root["signed"]["roles"]["root"]["keyids"][0].as_str().context("no root key id")?;
    let public = &root["signed"]["keys"][id]["keyval"]["public"];
    let certificate = STANDARD.decode(public.as_str().context("no root key")?)?;
    public_key_of(&String::from_utf8(certificate)?)
}

/// The public key, as PEM, inside a PEM certificate.
fn public_key_of(certificate: &str) -> Outcome<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-pubkey"]);
    Ok(run(&mut openssl, certificate)?.success()?.stdout)
}

/// The id under which `notary` lists an ECDSA key.
fn key_id(public_key: &str) -> Outcome<String> {
    let public = STANDARD.encode(pem_body(public_key)?);
    let key = format!(r#"{{"keytype":"ecdsa","keyval":{{"private":null,"public":"{public}"}}}}"#);
    Ok(sha256(key.as_bytes()).trim_start_matches("sha256:").to_owned())
}

/// The DER inside the first block of a PEM text.
pub fn pem_body(pem: &str) -> Outcome<Vec<u8>> {
    let body: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    Ok(STANDARD.decode(body)?)
}
