//! What verifying a repository costs, from its files' bytes to an image's proof: no I/O.

use std::collections::BTreeMap;

use countersign_e2e::notary_client::pem_body;
use countersign_e2e::{Context, Failure, Outcome};
use countersign_verify::image::{Digest, Pattern};
use countersign_verify::notary::{
    Lookup, Memory, Pin, PinnedKeys, Repository, RootStep, SnapshotStep, Update, Wanted,
};
use countersign_verify::outcome::Refusal;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::report::{Limit, Report, median};
use crate::world::{FILES, Signed, TAG, World};

const ROUNDS: usize = 500;

type Files = BTreeMap<&'static str, Vec<u8>>;

/// Adds the processor time of one verification.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let image = &world.near;
    let files = fetch(world, image)?;
    let digest = Digest::parse(&image.digest)?;
    let pin = Pin {
        name: "bench".to_owned(),
        repositories: vec![Pattern::parse(&image.name)?],
        keys: PinnedKeys::PublicKeys { keys: vec![pem_body(&image.pin)?], threshold: 1 },
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = thread_nanos();
        let now = Timestamp::now();
        let repository = verify(&pin, &image.name, &files, now).map_err(refused)?;
        let wanted = Wanted::Tag { tag: TAG, digest: &digest, size: None };
        repository.find(&Lookup::Docker, wanted, now).map_err(refused)?;
        rounds.push((thread_nanos() - begun) as f64 / 1e6);
    }
    report.value("cold Notary verification, CPU", "ms", median(rounds), Limit::AtMost(1.0));
    Ok(())
}

/// The failure of a bench whose own image is refused.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    Failure::new(format!("the signed image is refused: {refusal}"))
}

fn fetch(world: &World, image: &Signed) -> Outcome<Files> {
    let client = countersign_e2e::http::client(world.authority.certificate())?;
    let mut files = Files::new();
    for file in FILES {
        let url = format!("{}/v2/{}/_trust/tuf/{file}.json", image.notary, image.name);
        let answer = client.get(&url).send()?.error_for_status().context(&url)?;
        files.insert(file, answer.bytes()?.to_vec());
    }
    Ok(files)
}

fn verify(pin: &Pin, gun: &str, files: &Files, now: Timestamp) -> Result<Repository, Refusal> {
    let mut update = Update::new(pin, gun, Memory::default(), now);
    // An old root or another snapshot's files, which there are none of, end as "not given".
    if update.root(&files["root"])? == RootStep::Trusted {
        update.timestamp(&files["timestamp"])?;
        if update.snapshot(&files["snapshot"])? == SnapshotStep::Trusted {
            loop {
                let wanted = update.wanted_roles();
                if wanted.is_empty() {
                    break;
                }
                for (role, _) in wanted {
                    update.role(&role, Ok(&files[role.as_str()]));
                }
            }
        }
    }
    update.finish()
}

/// The processor time of this thread, in nanoseconds.
pub(crate) fn thread_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
