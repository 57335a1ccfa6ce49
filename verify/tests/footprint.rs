//! What reading a file takes in memory. Alone in its process, whose memory it looks at.

use countersign_verify::limits;
use countersign_verify::notary::untrusted_root;

/// The most memory that the process has had so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn t2_an_unverified_file_takes_memory_in_proportion_whatever_it_is_made_of() {
    for piece in ["0", "{}", r#""a""#, "[0]", r#"{"":0}"#, r#"{"a":{}}"#] {
        let count = limits::ROOT_BYTES as usize / (piece.len() + 1) - 100;
        let file = format!(r#"{{"signed":{{"x":[{}0]}}}}"#, format!("{piece},").repeat(count));
        let before = peak();
        let refusal = untrusted_root(file.as_bytes()).expect_err("no root");
        assert_eq!(refusal.code(), "MalformedMetadata");
        let taken = peak() - before;
        assert!(taken < 40 * file.len() as u64, "{piece}: {taken} bytes for {}", file.len());
    }
}
