//! What a process takes of the machine.

use std::fs;

use crate::{Context, Outcome};

/// Its resident memory, in bytes.
pub fn resident(pid: u32) -> Outcome<u64> {
    let kibibytes = status(pid, "VmRSS:")?;
    Ok(kibibytes.trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Its threads.
pub fn threads(pid: u32) -> Outcome<usize> {
    Ok(status(pid, "Threads:")?.parse()?)
}

/// Its open files, sockets among them.
pub fn open_files(pid: u32) -> Outcome<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

fn status(pid: u32, field: &str) -> Outcome<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    Ok(line.context(format!("no {field}"))?.trim().to_owned())
}
