//! Container images without a base image: one program of this machine, with what it loads.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::process::run;
use crate::registry::sha256;
use crate::{Context, Outcome, tools};

/// The user that the program runs as, unless the pod says otherwise.
pub const USER: u32 = 65532;

/// The authorities that a program trusts by itself.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image of one layer, for this machine's architecture.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The image's configuration.
    pub config: Value,
    /// Its layer, a tar archive.
    pub layer: Vec<u8>,
}

impl Packed {
    /// Packs a program as `/NAME`, stripped, with the libraries that it is linked to.
    pub fn program(program: &Path) -> Outcome<Self> {
        let name = program.file_name().context("a program without a name")?.display().to_string();
        let mut layer = Builder::new(Vec::new());
        append(&mut layer, &name, &stripped(program)?, 0o755)?;
        for library in libraries(program)? {
            let file = fs::read(&library).context(library.display())?;
            append(&mut layer, library.strip_prefix("/")?, &file, 0o755)?;
        }
        let users = format!(
            "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n"
        );
        append(&mut layer, "etc/passwd", users.as_bytes(), 0o644)?;
        let authorities = fs::read(AUTHORITIES).context(AUTHORITIES)?;
        append(&mut layer, AUTHORITIES.trim_start_matches('/'), &authorities, 0o644)?;
        let layer = layer.into_inner()?;
        let config = json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": [format!("/{name}")], "User": USER.to_string()},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
        });
        Ok(Self { config, layer })
    }

    /// The same, run with these arguments unless the pod says otherwise.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.config["config"]["Cmd"] = json!(arguments);
        self
    }

    /// The program of this crate for pods, serving HTTP on port 8080.
    pub fn workload() -> Outcome<Self> {
        Ok(Self::program(&tools::workload()?)?.arguments(&["serve"]))
    }

    /// The same with a label: another `content` makes another digest.
    pub fn labelled(mut self, content: &str) -> Self {
        self.config["config"]["Labels"] = json!({"content": content});
        self
    }

    /// The image as `docker save` would write it, under this reference.
    pub fn archive(&self, reference: &str) -> Outcome<Vec<u8>> {
        let manifest = json!([{
            "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"],
        }]);
        let mut archive = Builder::new(Vec::new());
        append(&mut archive, "config.json", self.config.to_string().as_bytes(), 0o644)?;
        append(&mut archive, "layer.tar", &self.layer, 0o644)?;
        append(&mut archive, "manifest.json", manifest.to_string().as_bytes(), 0o644)?;
        Ok(archive.into_inner()?)
    }
}

/// Of a debug build, nine tenths are for debuggers.
fn stripped(program: &Path) -> Outcome<Vec<u8>> {
    let mut file = tempfile::NamedTempFile::new()?;
    let mut strip = Command::new("strip");
    run(strip.arg("--strip-debug").arg("-o").arg(file.path()).arg(program), "")?.success()?;
    file.flush()?;
    Ok(fs::read(file.path())?)
}

/// The loader and the libraries, as the loader itself finds them. (Since glibc 2.34 names are
/// resolved without loading more at run time.)
fn libraries(program: &Path) -> Outcome<Vec<PathBuf>> {
    let listed = run(Command::new("ldd").arg(program), "")?.success()?.stdout;
    // `libc.so.6 => /lib/libc.so.6 (0x...)`, `/lib64/ld-linux.so.2 (0x...)`; what the kernel
    // provides has no path.
    let path = |line: &str| {
        let file = line.split(" => ").last()?.split_whitespace().next()?;
        file.starts_with('/').then(|| PathBuf::from(file))
    };
    Ok(listed.lines().filter_map(path).collect())
}

fn append(
    archive: &mut Builder<Vec<u8>>,
    path: impl AsRef<Path>,
    content: &[u8],
    mode: u32,
) -> Outcome<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    // Neither owner nor time: the same content is the same image.
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    Ok(archive.append_data(&mut header, path, content)?)
}

/// This machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
