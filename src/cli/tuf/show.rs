//! What the folder holds, for people.

use std::fmt::Write as _;

use countersign_verify::limits;
use countersign_verify::notary::RoleDetail;
use countersign_verify::tuf::{Covers, Kept, KeptDelegation, KeptFile, KeptRole};
use jiff::Timestamp;

use super::folder::Folder;
use super::unknown_keys_of;

/// Delegations of one role that are told of though their files are not there: of hashed bins there
/// are thousands.
const ABSENT_TOLD: usize = 16;

/// Patterns of one delegation that are told of.
const PATTERNS_TOLD: usize = 4;

/// Everything that the folder holds, at `now`.
pub(super) fn text(folder: &Folder, now: Timestamp) -> Result<String, String> {
    let root = folder.root()?;
    let read = |role: &str| folder.read(role, limits::TUF_TARGETS_BYTES);
    let kept = Kept::read(&root, &folder.roles(), &read);
    let mut text = String::new();
    let root = KeptFile::Signed { detail: kept.root, outdated: None };
    let base = [("root", &root), ("timestamp", &kept.timestamp), ("snapshot", &kept.snapshot)];
    for (name, file) in base {
        file_text(&mut text, name, file, now, "");
    }
    role_text(&mut text, &kept.targets, now, "");
    let files = [read("root"), read("targets")];
    let files: Vec<&[u8]> = files.iter().flatten().map(Vec::as_slice).collect();
    let unknown = unknown_keys_of(&files);
    if !unknown.is_empty() {
        let _ = writeln!(text, "note:{unknown}");
    }
    Ok(text)
}

/// A role and what is below it, each line indented by `indent`.
fn role_text(text: &mut String, role: &KeptRole, now: Timestamp, indent: &str) {
    let below = format!("{indent}  ");
    file_text(text, &shown(&role.name), &role.file, now, indent);
    if role.bins > 0 {
        let here = role.delegations.len();
        let _ = writeln!(text, "{below}{} bins by the hash of the name, {here} here", role.bins);
    }
    let mut left_out = 0;
    for (place, delegation) in role.delegations.iter().enumerate() {
        if delegation.role.file == KeptFile::Absent && place >= ABSENT_TOLD {
            left_out += 1;
            continue;
        }
        let _ = writeln!(text, "{below}delegates {}", delegation_text(delegation));
        role_text(text, &delegation.role, now, &format!("{below}  "));
    }
    if left_out > 0 {
        let _ = writeln!(text, "{below}and {left_out} delegations more, not here yet");
    }
}

fn delegation_text(delegation: &KeptDelegation) -> String {
    let list = |words: &[String]| {
        let told: Vec<String> = words.iter().take(PATTERNS_TOLD).map(|it| shown(it)).collect();
        let more = words.len().saturating_sub(PATTERNS_TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", told.join(" "))
    };
    let covers = match &delegation.covers {
        Covers::Paths(paths) if paths.is_empty() => "nothing".to_owned(),
        Covers::Paths(paths) => list(paths),
        Covers::HashPrefixes(prefixes) => format!("names whose sha256 begins {}", list(prefixes)),
        Covers::Bin => "its bin".to_owned(),
    };
    let ends = if delegation.terminating { ", and the search ends there" } else { "" };
    let (keys, threshold) = delegation.keys;
    format!("{covers} to, by {threshold} of {keys} keys{ends}:")
}

fn file_text(text: &mut String, name: &str, file: &KeptFile, now: Timestamp, indent: &str) {
    let _ = match file {
        KeptFile::Absent => writeln!(text, "{indent}{name}: not here yet"),
        KeptFile::Bad(denial) => {
            writeln!(text, "{indent}{name}: BAD: {denial}; the next refresh ignores it")
        }
        KeptFile::Signed { detail, outdated } => {
            let _ = writeln!(text, "{indent}{name}: {}", detail_text(detail, now));
            if let Some(denial) = outdated {
                let _ = writeln!(text, "{indent}  OUTDATED: {denial}");
            }
            keys_text(text, detail, indent);
            Ok(())
        }
    };
}

fn detail_text(detail: &RoleDetail, now: Timestamp) -> String {
    let entries = match detail.entries {
        0 => String::new(),
        1 => ", 1 target".to_owned(),
        entries => format!(", {entries} targets"),
    };
    let RoleDetail { version, threshold, keys, .. } = detail;
    let until = until(detail.expires, now);
    format!("version {version}, {until}, by {threshold} of {} keys{entries}", keys.len())
}

fn keys_text(text: &mut String, detail: &RoleDetail, indent: &str) {
    for key in &detail.keys {
        let signed = if detail.signers.contains(key) { "signed by" } else { "also key " };
        let _ = writeln!(text, "{indent}  {signed} {key}");
    }
}

/// When a file expires, and how far that is.
fn until(expires: Timestamp, now: Timestamp) -> String {
    let seconds = expires.duration_since(now).as_secs();
    let distance = match seconds.unsigned_abs() {
        seconds @ 0..=119 => format!("{seconds} seconds"),
        seconds @ 120..=7_199 => format!("{} minutes", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} hours", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    };
    if expires <= now {
        format!("EXPIRED {expires}, {distance} ago")
    } else {
        format!("expires {expires}, in {distance}")
    }
}

/// A name as a terminal may see it.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}
