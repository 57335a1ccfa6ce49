//! `make bench`: Countersign beside an echo of the same reviews, in one run, with real servers.
//! Ends with 1 where a limit is missed.

mod cold;
mod delay;
mod echo;
mod load;
mod machine;
mod many;
mod overload;
mod report;
mod repositories;
mod review;
mod stampede;
mod start;
mod tuf;
mod verification;
mod warm;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use countersign_e2e::{Outcome, http};
use jiff::Timestamp;

use report::Report;
use world::World;

fn main() -> ExitCode {
    http::install_crypto();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("echo") => echo::serve(&arguments[1..]).map(|()| true),
        _ => bench(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every limit is kept of what these words name: all where there are none.
fn bench(words: &[String]) -> Outcome<bool> {
    let (date, begun) = (Timestamp::now(), Instant::now());
    machine::raise_file_limit()?;
    let folder = tempfile::tempdir()?;
    eprintln!("signing images");
    let world = World::new(folder.path())?;
    let mut report = Report::default();
    let all = [
        ("cold verification", verification::measure as fn(&World, &mut Report) -> Outcome<()>),
        ("cold reviews", cold::measure),
        ("1,000 reviews at once", stampede::measure),
        ("start", start::measure),
        ("1,000 repositories", repositories::measure),
        ("warm reviews", warm::measure),
        ("TUF", tuf::measure),
        ("overload", overload::measure),
    ];
    let asked = |name: &str| {
        let named = |word: &String| name.to_lowercase().contains(&word.to_lowercase());
        words.is_empty() || words.iter().any(named)
    };
    let mut parts = Vec::new();
    for (name, measure) in all.into_iter().filter(|(name, _)| asked(name)) {
        eprintln!("measuring {name}");
        measure(&world, &mut report)?;
        parts.push(name);
    }
    report.print();
    let file = report.write(&parts, date, begun.elapsed())?;
    eprintln!("{:.0} s; written to {}", begun.elapsed().as_secs_f64(), file.display());
    Ok(report.kept())
}
