//! `make soak`: an hour of everything. Two replicas with a real API server, a real Notary server, a
//! TUF repository that python-tuf writes, a real registry and a thousand repositories more, under load
//! without a pause, while tags are signed and revoked, keys rotated, policies edited, certificates
//! replaced, checkpoints deleted and set back, servers go back or fail for seconds, the API server
//! restarts, more is asked for at once than there are places for, and one of the replicas is killed.
//! Ends with 1 on a wrong verdict, on a panic, where a refresh that finds nothing new is missing or
//! writes, and where what a replica takes of the machine grows.
//!
//! `SOAK_SECONDS` says for how long: 3600 unless it is set.

mod burst;
mod checkpoints;
mod events;
mod load;
mod many;
mod refreshes;
mod replicas;
mod tally;
mod trouble;
mod tuf;
mod watch;
mod world;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use countersign_e2e::{Context, Outcome};

use tally::Tally;
use watch::Watch;
use world::World;

/// How long it takes unless it is told.
const HOUR: Duration = Duration::from_secs(3600);

/// The shortest time in which growth can be told from warming up.
const SHORTEST: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match soak() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn soak() -> Outcome<bool> {
    let length = match env::var("SOAK_SECONDS") {
        Ok(seconds) => Duration::from_secs(seconds.parse().context("SOAK_SECONDS")?),
        Err(_) => HOUR,
    };
    let length = length.max(SHORTEST);
    eprintln!("signing images; then {} minutes of everything", length.as_secs() / 60);
    let world = World::start()?;
    let (tally, over) = (Tally::default(), AtomicBool::new(false));
    let watch = thread::scope(|scope| {
        let mut working = Vec::new();
        for kind in load::KINDS {
            let (world, tally, over) = (&world, &tally, &over);
            working.push(scope.spawn(move || load::run(kind, world, tally, over)));
        }
        working.push(scope.spawn(|| events::run(&world, &tally, &over)));
        working.push(scope.spawn(|| refreshes::run(&world, &tally, &over)));
        let watch = Watch::over(&world, &tally, length, || {
            working.iter().any(thread::ScopedJoinHandle::is_finished)
        });
        over.store(true, Ordering::Relaxed);
        for worker in working {
            worker.join().ok().context("a part of the soak panicked")??;
        }
        watch
    })?;
    let kept = [tally.print(), watch.print(), world.no_panics()?];
    let kept = kept.into_iter().all(|kept| kept);
    println!("{}", if kept { "the soak found nothing" } else { "the soak FAILED: see above" });
    Ok(kept)
}
