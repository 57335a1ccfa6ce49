//! Resources out of YAML and JSON files.

mod objects;

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{SnippetMode, Spanned};

use super::{Compiled, Problem, Resources, compile};

/// Largest file read, in bytes: a ConfigMap holds at most 1 MiB, and a folder's policies in one
/// file stay far below this.
const FILE_BYTES: u64 = 4 << 20;

/// Why a file, or a document in it, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The file or folder.
    pub path: PathBuf,
    /// Where in the file, as `document 2, line 14`.
    pub place: Option<String>,
    /// The resource, as `ConfigMap "corp-ca"`, where it could be told.
    pub resource: Option<String>,
    /// The field's path, where one is to blame.
    pub field: Option<String>,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(place) = &self.place {
            write!(f, ", {place}")?;
        }
        for part in [&self.resource, &self.field].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why files do not give a set of policies that can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadProblem {
    /// A file, or a document in it, cannot be read.
    #[error("{0}")]
    File(FileProblem),
    /// A resource does not compile.
    #[error("{0}")]
    Resource(Problem),
}

/// Reads and compiles files and folders, for the command line: any problem is an error, and so is
/// the lack of any TrustPolicy. `now` is for the validity of certificates in pins.
pub fn load(paths: &[PathBuf], now: Timestamp) -> Result<Compiled, Vec<LoadProblem>> {
    let resources = read(paths)
        .map_err(|problems| problems.into_iter().map(LoadProblem::File).collect::<Vec<_>>())?;
    let compiled = compile(&resources, now);
    if !compiled.problems.is_empty() {
        return Err(compiled.problems.into_iter().map(LoadProblem::Resource).collect());
    }
    if compiled.policies.is_empty() {
        let path = paths.first().cloned().unwrap_or_default();
        let reason = "no TrustPolicy was found here; name a file, or a folder with .yaml, .yml or .json files, that has one";
        return Err(vec![LoadProblem::File(FileProblem::of_file(&path, reason))]);
    }
    Ok(compiled)
}

/// Reads files, and folders' `.yaml`, `.yml` and `.json` files without subfolders. They hold
/// TrustPolicies and TrustSources, and the ConfigMaps and Secrets that these name.
///
/// A spec of the wrong shape is no problem here: it stays in the [`Resources`] as unreadable, and
/// [`compile`] reports it and denies what it matches.
pub fn read(paths: &[PathBuf]) -> Result<Resources, Vec<FileProblem>> {
    let mut resources = Resources::default();
    let mut problems = Vec::new();
    for path in paths {
        match files(path) {
            Ok(files) => {
                for file in files {
                    read_file(&file, &mut resources, &mut problems);
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(resources) } else { Err(problems) }
}

impl FileProblem {
    fn of_file(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            place: None,
            resource: None,
            field: None,
            reason: reason.into(),
        }
    }
}

/// The file itself, or a folder's files in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, FileProblem> {
    let unreadable =
        |error: std::io::Error| FileProblem::of_file(path, format!("it cannot be read: {error}"));
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?.path();
        // kubelet keeps a mounted ConfigMap's data in `..data` and links to it from the folder.
        let hidden = entry.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = entry.extension().and_then(|extension| extension.to_str());
        if hidden || !matches!(extension, Some("yaml" | "yml" | "json")) {
            continue;
        }
        // A dangling link is kept, so that reading it says so.
        if !fs::metadata(&entry).is_ok_and(|metadata| metadata.is_dir()) {
            files.push(entry);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, resources: &mut Resources, problems: &mut Vec<FileProblem>) {
    let documents = match text(path).and_then(|text| documents(path, &text)) {
        Ok(documents) => documents,
        Err(problem) => return problems.push(problem),
    };
    for (index, document) in documents.into_iter().enumerate() {
        let line = document.referenced.line();
        let place = format!("document {}, line {line}", index + 1);
        objects::add(path, &place, document.value, resources, problems);
    }
}

fn text(path: &Path) -> Result<String, FileProblem> {
    let mut text = String::new();
    let file = fs::File::open(path);
    match file.and_then(|file| file.take(FILE_BYTES + 1).read_to_string(&mut text)) {
        Err(error) => Err(FileProblem::of_file(path, format!("it cannot be read: {error}"))),
        Ok(_) if text.len() as u64 > FILE_BYTES => {
            Err(FileProblem::of_file(path, format!("it is larger than {FILE_BYTES} bytes")))
        }
        Ok(_) => Ok(text),
    }
}

/// JSON is read as the YAML that it is, with its limits and its refusal of duplicate keys.
fn documents(path: &Path, text: &str) -> Result<Vec<Spanned<Value>>, FileProblem> {
    serde_saphyr::from_multiple(text).map_err(|error| {
        // Without the snippet that it can show: the line may be a Secret's.
        let options = serde_saphyr::render_options! { snippets: SnippetMode::Off };
        FileProblem {
            place: error.location().map(|location| format!("line {}", location.line())),
            ..FileProblem::of_file(
                path,
                match beyond(error.without_snippet()) {
                    Some(limit) => format!("it is {limit}; split it into several files"),
                    None => format!("it is not valid YAML: {}", error.render_with_options(options)),
                },
            )
        }
    })
}

/// Which of the reader's limits a file is beyond, if that is what is wrong with it.
fn beyond(error: &serde_saphyr::Error) -> Option<String> {
    let serde_saphyr::Error::Budget { breach, .. } = error else { return None };
    Some(match breach {
        BudgetBreach::Documents { documents } => {
            format!("longer than {} documents", documents.saturating_sub(1))
        }
        _ => "larger, deeper or fuller of aliases than a file of policies may be".to_owned(),
    })
}

#[cfg(test)]
mod tests;
