//! How much memory metadata takes that is made to take much. A program of its own, with one test:
//! it counts all that is allocated.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::tuf::InitialRoot;
use peak_alloc::PeakAlloc;
use serde_json::{Map, Value, json};

#[path = "../tuf/builder.rs"]
mod builder;
#[path = "../tuf/shell.rs"]
mod shell;
#[path = "../tuf/signer.rs"]
mod signer;

use builder::{Files, Repo};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What reading a file may take at most, in its lengths: its values, three times as much for a
/// moment as their lists grow and are copied, what is signed, and what the values say.
const READING: usize = 3 * limits::JSON_FOOTPRINT as usize + 4;

/// What is kept of a repository at most, in what it counts for.
const KEEPING: usize = 2;

/// Not in proportion to anything.
const ANYTHING: usize = 256 << 10;

/// What `work` takes at its height, beside what is there before.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let done = work();
    (ALLOCATED.peak_usage() - before, done)
}

fn list(length: usize, unit: &str) -> String {
    format!("[{}]", vec![unit; length / (unit.len() + 1)].join(","))
}

fn nested(open: &str, close: &str) -> String {
    format!("{}0{}", open.repeat(100), close.repeat(100))
}

/// JSON that takes much memory, of about this length.
fn costly(length: usize) -> Vec<(&'static str, String)> {
    let long = "k".repeat(4_000);
    let members: Vec<String> = (0..length / 10).map(|n| format!("\"{n:05x}\":0")).collect();
    vec![
        ("nested objects", list(length, &nested("{\"\":", "}"))),
        ("nested objects with names", list(length, &nested("{\"a\":", "}"))),
        ("nested objects of two", list(length, &nested("{\"b\":0,\"a\":", "}"))),
        ("nested lists", list(length, &nested("[", "]"))),
        ("empty objects", list(length, "{}")),
        ("small objects", list(length, "{\"a\":0}")),
        ("one large object", format!("{{{}}}", members.join(","))),
        ("empty lists", list(length, "[]")),
        ("lists of one", list(length, "[0]")),
        ("numbers", list(length, "0")),
        ("short strings", list(length, "\"a\"")),
        ("escaped strings", list(length, "\"\\n\"")),
        ("escaped names", list(length, "{\"\\n\":0}")),
        ("strings", list(length, "\"0123\"")),
        ("long names", list(length, &format!("{{\"{long}\":0}}"))),
        ("one long string", format!("\"{}\"", "k".repeat(length))),
        ("one long escaped string", format!("\"{}\"", "\\n".repeat(length / 2))),
    ]
}

fn unsigned(x: &str) -> Vec<u8> {
    format!("{{\"signatures\":[],\"signed\":{{\"_type\":\"x\",\"x\":{x}}}}}").into_bytes()
}

/// A sound repository that lists no hashes: whoever serves it can put other files in.
fn sound() -> Repo {
    let mut repo = Repo::signing(&[("1.4", "new")]);
    repo.hashes = false;
    repo
}

fn check(what: &str, file: &[u8], taken: usize) {
    let most = READING * file.len() + ANYTHING;
    assert!(taken <= most, "{what}: {} bytes take {taken}", file.len());
}

fn reading_without_keys() {
    for (what, x) in costly(limits::TUF_ROOT_BYTES as usize - 100) {
        let root = unsigned(&x);
        let (taken, read) = peak(|| InitialRoot::read(&root).map(drop));
        read.expect_err("it is no root");
        check(&format!("a root of {what}"), &root, taken);
    }
    let files = sound().seal();
    for (what, x) in costly(2_500_000) {
        let mut files = files.clone();
        files.roles.insert("snapshot".to_owned(), unsigned(&x));
        let (taken, updated) = peak(|| files.run(shell::tags("1.4"), &Memory::default()));
        updated.find("new").expect_err("nobody has signed it");
        check(&format!("a snapshot of {what}"), &files.roles["snapshot"], taken);
    }
}

/// Signed files of parts that say as little as they can, by role.
fn small_parts() -> Vec<(&'static str, &'static str, Files)> {
    let names = |count: usize| (0..count).map(|n| format!("{n:x}"));
    let entries: Map<_, _> =
        names(120_000).map(|name| (name, json!({"hashes": {}, "length": 1}))).collect();
    let role = |name| json!({"name": name, "keyids": [], "threshold": 1});
    let short = vec!["00"; limits::TUF_DELEGATION_PATHS];
    let of = |member: &'static str| {
        let with = |name| {
            let mut role = role(name);
            role[member] = json!(short);
            role
        };
        names(200).map(with).collect()
    };
    let delegations: [(_, Vec<Value>); 3] = [
        ("delegations", names(limits::TUF_DELEGATIONS_LISTED).map(role).collect()),
        ("hash prefixes", of("path_hash_prefixes")),
        ("paths", of("paths")),
    ];
    let targets = |member, value| {
        let mut repo = sound();
        repo.set("targets", member, value);
        repo.seal()
    };
    let mut all = vec![("entries", "targets", targets("targets", entries.into()))];
    for (what, roles) in delegations {
        let files = targets("delegations", json!({"keys": {}, "roles": roles}));
        all.push((what, "targets", files));
    }
    let list = |snapshot: &mut Value| {
        let roles = names(150_000).map(|name| (format!("{name}.json"), json!({"version": 1})));
        snapshot["meta"].as_object_mut().unwrap().extend(roles);
    };
    all.push(("roles", "snapshot", sound().seal_with(list, |_| {})));
    all
}

fn keeping() {
    for (what, role, files) in small_parts() {
        let file = &files.roles[role];
        let before = ALLOCATED.current_usage();
        let (taken, updated) = peak(|| files.run(shell::tags("1.4"), &Memory::default()));
        check(what, file, taken);
        let kept = ALLOCATED.current_usage() - before;
        let counted = updated.repository.expect(what).bytes() as usize;
        assert!(kept <= KEEPING * counted + ANYTHING, "{what}: {kept} of {counted}");
    }
}

#[test]
fn t2_memory_stays_in_proportion_to_the_file() {
    reading_without_keys();
    keeping();
}
