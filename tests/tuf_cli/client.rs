//! The program, and what it keeps.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::simulator::Simulator;

pub(crate) struct Client {
    place: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn succeeds(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// What it complained of, which has these words in it.
    #[track_caller]
    pub(crate) fn fails(self, words: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
        self.stderr
    }
}

impl Client {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().expect("a folder");
        fs::create_dir(place.path().join("targets")).expect("a folder");
        Self { place }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Runs the program with the metadata folder and these arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("tuf").arg("--metadata-dir").arg(self.path("metadata")).args(arguments);
        let output = command.output().expect("run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    pub(crate) fn init(&self, root: &[u8]) -> Ended {
        let path = self.path("initial-root.json");
        fs::write(&path, root).expect("written");
        self.run(&["init", path.to_str().expect("text")])
    }

    pub(crate) fn refresh(&self, simulator: &Simulator) -> Ended {
        self.run(&["--metadata-url", &simulator.metadata_url(), "refresh"])
    }

    pub(crate) fn download(&self, simulator: &Simulator, names: &[&str]) -> Ended {
        let (url, targets_url) = (simulator.metadata_url(), simulator.targets_url());
        let folder = self.path("targets");
        let mut arguments = vec!["--metadata-url", &url, "--target-base-url", &targets_url];
        arguments.extend(["--target-dir", folder.to_str().expect("text")]);
        for name in names {
            arguments.extend(["--target-name", name]);
        }
        arguments.push("download");
        self.run(&arguments)
    }

    /// A role's file, by its escaped name.
    pub(crate) fn kept(&self, role: &str) -> Option<Vec<u8>> {
        fs::read(self.path("metadata").join(format!("{role}.json"))).ok()
    }

    pub(crate) fn keep(&self, role: &str, bytes: &[u8]) {
        let path = self.path("metadata").join(format!("{role}.json"));
        fs::write(path, bytes).expect("written");
    }

    /// The roles that there are files of, with their versions, as `root 1, targets 2`.
    pub(crate) fn trusted(&self) -> String {
        let entries = fs::read_dir(self.path("metadata")).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        let mut roles: Vec<String> = names
            .filter_map(|name| {
                let role = name.strip_suffix(".json")?;
                let file: Value = serde_json::from_slice(&self.kept(role)?).ok()?;
                Some(format!("{role} {}", file["signed"]["version"]))
            })
            .collect();
        roles.sort();
        roles.join(", ")
    }

    /// The names and contents of stored targets.
    pub(crate) fn stored(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.path("targets")).expect("a folder");
        let mut stored: Vec<_> = entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let bytes = fs::read(entry.path()).expect("read");
                let name = entry.file_name().into_string().expect("text");
                (name, String::from_utf8(bytes).expect("text"))
            })
            .collect();
        stored.sort();
        stored
    }
}
