//! What the documentation tells to write.

use std::fs;
use std::path::Path;

use countersign::api;
use jiff::Timestamp;
use serde_json::json;

use super::*;

/// The whole resources among the examples of a page, with the initial root that they name.
fn examples(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(path).expect("the page");
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    // An ellipsis stands for what only a reader has.
    let whole = blocks.filter(|block| block.starts_with("apiVersion:") && !block.contains("...\""));
    let root = Repo::new().seal().roots[&1].clone();
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corp-tuf"},
        "data": {"root.json": String::from_utf8(root).expect("JSON")},
    });
    whole.map(str::to_owned).chain([format!("{config_map}\n")]).collect()
}

#[test]
fn examples_in_the_documentation_compile() {
    for (page, least) in [("policies.md", 6), ("tuf.md", 2)] {
        let examples = examples(page);
        assert!(examples.len() >= least, "{page}: {examples:#?}");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("all.yaml");
        fs::write(&file, examples.join("---\n")).expect("written");
        let compiled = api::load(&[file], Timestamp::now());
        assert!(compiled.is_ok(), "{page}: {:#?}", compiled.err());
    }
}
