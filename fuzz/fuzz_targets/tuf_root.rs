//! An initial root of any bytes, and an update from it with sound files and with any bytes.
#![no_main]

#[path = "../../verify/tests/tuf/builder.rs"]
mod builder;
#[path = "../../verify/tests/tuf/shell.rs"]
mod shell;
#[path = "../../verify/tests/tuf/signer.rs"]
mod signer;

use countersign_verify::memory::Memory;
use countersign_verify::tuf::{Answer, InitialRoot, Update};
use libfuzzer_sys::fuzz_target;

use builder::now;

fuzz_target!(|input: &[u8]| {
    let Ok(root) = InitialRoot::read(input) else { return };
    let mut update = Update::new(&root, Memory::default(), now());
    for role in ["root", "timestamp", "snapshot", "targets"] {
        for file in update.wanted() {
            let answer = if role == "root" { Answer::Absent } else { Answer::Bytes(input) };
            let _ = update.take(&file.role, answer);
        }
    }
    let (asked, finished) = (update.wanted().len(), update.finish());
    assert!(finished.is_err(), "one file is no repository; {asked}");
});
