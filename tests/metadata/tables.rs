//! The tables of codes and spans have what the code has, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const CODES: &str = include_str!("../../docs/codes.md");
const METRICS: &str = include_str!("../../docs/metrics.md");
const DENIALS: &str = include_str!("../../verify/src/outcome/denial.rs");
const UNAVAILABLE: &str = include_str!("../../verify/src/outcome/unavailable.rs");

/// The texts of all Rust files below a folder of this package, those of tests too.
fn texts(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(fs::read_to_string(&path).expect("a text"));
        }
    }
}

/// What stands in quotes after each `before` in the code of a folder of this package.
fn in_the_code(folder: &str, before: &str) -> BTreeSet<String> {
    let mut all = Vec::new();
    texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
    all.iter().flat_map(|text| after(text, before)).collect()
}

fn after(text: &str, before: &str) -> BTreeSet<String> {
    let quotes = usize::from(!before.ends_with('"'));
    let rests = text.split(before).skip(1);
    rests.filter_map(|rest| rest.split('"').nth(quotes)).map(str::to_owned).collect()
}

/// The rows of tables by the name in their first cell, of which there is one each.
fn rows(text: &str) -> BTreeMap<String, Vec<&str>> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').to_owned();
        assert!(rows.insert(name, cells).is_none(), "twice: {line}");
    }
    rows
}

#[test]
fn every_code_is_in_the_table_and_every_row_is_a_code() {
    let codes: BTreeSet<String> = [DENIALS, UNAVAILABLE]
        .map(|text| after(text, "=> \""))
        .into_iter()
        .chain(["forbidden(\"", "code = \""].map(|before| in_the_code("src/admission", before)))
        .flatten()
        .collect();
    let rows = rows(CODES);
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), codes);
    for (code, cells) in rows {
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{code}: {cells:?}");
    }
}

#[test]
fn every_span_is_in_the_table_and_every_row_is_a_span() {
    let (_, traces) = METRICS.split_once("\n## Traces\n").expect("a section");
    let rows = rows(traces);
    let spans = in_the_code("src", "target: SPANS,");
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), spans);
    for (span, cells) in &rows {
        let within =
            cells[1].split(", ").map(|it| it.trim_matches('`')).filter(|it| !it.is_empty());
        let known = |it: &str| rows.contains_key(it);
        assert!(within.clone().all(known), "{span}: {cells:?}");
    }
}
