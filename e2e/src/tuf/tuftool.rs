//! tuftool, by its own commands. The name of a target is the name of a file, so it has no `/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{Timestamp, ToSpan as _};

use crate::process::run;
use crate::registry::sha256;
use crate::{Outcome, tools};

/// A repository that tuftool writes, in a folder. Roles expire in a day.
pub struct Tuftool {
    folder: PathBuf,
    /// Of targets, snapshot and timestamp, which get a new version together.
    version: u64,
    root_keys: u32,
}

/// The top-level roles whose ed25519 keys openssl makes: in DER, for tuftool reads them in no other
/// form. The root has RSA keys, which tuftool makes itself.
const ROLES: [&str; 3] = ["targets", "snapshot", "timestamp"];

/// The day on which what has to be expired expired.
const PAST: &str = "2020-01-01T00:00:00Z";

fn tomorrow() -> Outcome<String> {
    Ok(Timestamp::now().checked_add(24.hours())?.to_string())
}

impl Tuftool {
    /// Its name and version, as it tells them itself.
    pub fn version() -> Outcome<String> {
        let said = run(tool()?.arg("--version"), "")?.success()?;
        Ok(said.stdout.trim().to_owned())
    }

    /// Makes a repository in this folder with these target files.
    pub fn create(folder: &Path, targets: &[(&str, &[u8])]) -> Outcome<Self> {
        fs::create_dir_all(folder.join("keys"))?;
        let mut tuf = Self { folder: folder.to_owned(), version: 0, root_keys: 0 };
        let root = tuf.path("root.json");
        tuf.run(&["root", "init", &root])?;
        tuf.run(&["root", "expire", &root, &tomorrow()?])?;
        for role in ["root", "targets", "snapshot", "timestamp"] {
            tuf.run(&["root", "set-threshold", &root, role, "1"])?;
        }
        tuf.new_root_key()?;
        for role in ROLES {
            let key = tuf.new_key(role)?;
            tuf.run(&["root", "add-key", &root, "-k", &key, "--role", role])?;
        }
        tuf.run(&["root", "sign", &root, "-k", &tuf.root_key(1)])?;
        tuf.sign("create", targets, &tomorrow()?)?;
        Ok(tuf)
    }

    /// Signs more target files in the role `targets`.
    pub fn update(&mut self, targets: &[(&str, &[u8])]) -> Outcome<()> {
        self.sign("update", targets, &tomorrow()?)
    }

    /// Signs a timestamp that has expired.
    pub fn expire(&mut self) -> Outcome<()> {
        self.sign("update", &[], PAST)
    }

    /// Delegates names of these patterns to a new role, which signs target files.
    pub fn delegate(&mut self, role: &str, paths: &str, targets: &[(&str, &[u8])]) -> Outcome<()> {
        let (expires, key) = (tomorrow()?, self.new_key(role)?);
        let incoming = self.path("incoming");
        let new = ["delegation", "--signing-role", role, "create-role", "-v", "1"];
        self.run(&[&new[..], &["-o", &incoming, "-k", &key, "-e", &expires]].concat())?;
        self.version += 1;
        let version = self.version.to_string();
        let mut add = vec!["delegation", "--signing-role", "targets", "add-role"];
        let (root, url, from) = (self.path("root.json"), self.url(), self.url_of("incoming"));
        let out = self.path("");
        add.extend(["--delegated-role", role, "--paths", paths, "-t", "1", "-v", &version]);
        add.extend([
            "-o",
            &out,
            "-i",
            &from,
            "--root",
            &root,
            "--metadata-url",
            &url,
            "-e",
            &expires,
        ]);
        add.extend(["--sign-all", "--snapshot-version", &version, "--timestamp-version", &version]);
        add.extend(["--snapshot-expires", &expires, "--timestamp-expires", &expires]);
        self.run_with_keys(&add)?;
        // Then the role itself signs its files, and the repository takes them in.
        let files = self.input(targets)?;
        let mut own = vec!["delegation", "--signing-role", role, "update-delegated-targets"];
        own.extend([
            "--add-targets",
            &files,
            "-o",
            &incoming,
            "-k",
            &key,
            "-v",
            "2",
            "-e",
            &expires,
        ]);
        own.extend(["--root", &root, "--metadata-url", &url]);
        self.run(&own)?;
        // tuftool leaves them where the role was signed, without their hashes.
        for (name, bytes) in targets {
            let hash = sha256(bytes);
            let hash = hash.trim_start_matches("sha256:");
            fs::write(self.folder.join("targets").join(format!("{hash}.{name}")), bytes)?;
        }
        self.sign_with("update", &["--role", role, "-i", &from], &expires)
    }

    /// Gives the root a new key, and signs it with both.
    pub fn rotate_root(&mut self) -> Outcome<()> {
        let root = self.path("root.json");
        let old = self.path("old.root.json");
        fs::copy(&root, &old)?;
        let signed: serde_json::Value = serde_json::from_slice(&fs::read(&old)?)?;
        let former = signed["signed"]["roles"]["root"]["keyids"][0].as_str().unwrap_or_default();
        self.run(&["root", "remove-key", &root, former, "root"])?;
        self.new_root_key()?;
        self.run(&["root", "bump-version", &root])?;
        let (new, former) = (self.root_key(self.root_keys), self.root_key(self.root_keys - 1));
        self.run(&["root", "sign", &root, "-k", &new])?;
        self.run(&["root", "sign", &root, "-k", &former, "--cross-sign", &old])?;
        self.sign("update", &[], &tomorrow()?)
    }

    /// Signs targets, snapshot and timestamp.
    fn sign(&mut self, command: &str, targets: &[(&str, &[u8])], expires: &str) -> Outcome<()> {
        let files = self.input(targets)?;
        self.sign_with(command, &["--add-targets", &files], expires)
    }

    fn sign_with(&mut self, command: &str, more: &[&str], expires: &str) -> Outcome<()> {
        self.version += 1;
        let (version, later) = (self.version.to_string(), tomorrow()?);
        let (root, url, out) = (self.path("root.json"), self.url(), self.path(""));
        let mut sign = vec![command, "--root", &root, "--outdir", &out];
        if command == "update" {
            // What has expired is taken up again.
            sign.extend(["--metadata-url", &url, "--allow-expired-repo"]);
        }
        sign.extend(["--targets-version", &version, "--targets-expires", &later]);
        sign.extend(["--snapshot-version", &version, "--snapshot-expires", &later]);
        sign.extend(["--timestamp-version", &version, "--timestamp-expires", expires]);
        sign.extend(more);
        self.run_with_keys(&sign)
    }

    fn run_with_keys(&self, arguments: &[&str]) -> Outcome<()> {
        let mut arguments = arguments.to_vec();
        let keys = ROLES.map(|role| self.key(role));
        let root = self.root_key(self.root_keys);
        for key in keys.iter().chain([&root]) {
            arguments.extend(["-k", key]);
        }
        self.run(&arguments)
    }

    fn run(&self, arguments: &[&str]) -> Outcome<()> {
        run(tool()?.args(arguments), "")?.success().map(drop)
    }

    /// A folder with these files in it.
    fn input(&self, targets: &[(&str, &[u8])]) -> Outcome<String> {
        let input = self.folder.join(format!("input-{}", self.version));
        fs::create_dir_all(&input)?;
        for (name, bytes) in targets {
            fs::write(input.join(name), bytes)?;
        }
        Ok(input.display().to_string())
    }

    fn new_key(&self, role: &str) -> Outcome<String> {
        let key = self.key(role);
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", &key]);
        run(&mut openssl, "")?.success()?;
        Ok(key)
    }

    fn new_root_key(&mut self) -> Outcome<()> {
        self.root_keys += 1;
        let key = self.root_key(self.root_keys);
        self.run(&["root", "gen-rsa-key", &self.path("root.json"), &key, "--role", "root"])
    }

    fn root_key(&self, number: u32) -> String {
        self.key(&format!("root-{number}"))
    }

    fn key(&self, role: &str) -> String {
        self.path(&format!("keys/{role}.pem"))
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn url(&self) -> String {
        format!("file://{}", self.path("metadata"))
    }

    fn url_of(&self, folder: &str) -> String {
        format!("file://{}/metadata", self.path(folder))
    }
}

fn tool() -> Outcome<Command> {
    Ok(Command::new(tools::kubernetes("tuftool")?))
}
