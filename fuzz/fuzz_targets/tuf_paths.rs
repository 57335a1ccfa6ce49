//! Paths of delegations: each line is one, and the first is the tag that is looked up. A path
//! covers what a second implementation says that it covers.
#![no_main]

#[path = "../../verify/tests/tuf/builder.rs"]
mod builder;
#[path = "../../verify/tests/tuf/shell.rs"]
mod shell;
#[path = "../../verify/tests/tuf/signer.rs"]
mod signer;

use countersign_fuzz::line;
use countersign_verify::image::Reference;
use libfuzzer_sys::fuzz_target;

use builder::{NAME, Repo, path};
use shell::{any, question};

/// Whether `glob` matches, by backtracking: `*` and `?` stay within a component.
fn matches(glob: &[char], name: &[char]) -> bool {
    match (glob, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => {
            matches(rest, name)
                || matches!(name, [first, after @ ..] if *first != '/' && matches(glob, after))
        }
        (['?', rest @ ..], [first, after @ ..]) => *first != '/' && matches(rest, after),
        ([one, rest @ ..], [first, after @ ..]) => one == first && matches(rest, after),
        _ => false,
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (tag, paths) = line(input.as_bytes());
    let (tag, paths) = (String::from_utf8_lossy(tag), String::from_utf8_lossy(paths));
    // Backtracking takes its time, and classes of characters are left to the tests.
    let simple =
        paths.len() <= 200 && paths.matches('*').count() <= 4 && !paths.contains(['[', '\\']);
    if !simple || Reference::parse(&format!("{NAME}:{tag}")).is_err() || tag.contains('@') {
        return;
    }
    let mut repo = Repo::new();
    let paths: Vec<&str> = paths.lines().collect();
    repo.delegated("targets", "releases", &paths, &[(&tag, "new")]);
    let asked = question(&format!("{NAME}:{tag}"), any());
    let found = repo.seal().run(asked, &Default::default()).find("new");
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    let name = chars(&path(&tag));
    let covered = paths.iter().any(|path| matches(&chars(path), &name));
    assert_eq!(found.is_ok(), covered, "{tag} {paths:?} {found:?}");
});
