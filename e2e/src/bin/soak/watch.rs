//! What a replica takes of the machine, second by second, and whether that grows.

use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::{Failure, Outcome, usage};

use crate::tally::Tally;
use crate::world::World;

/// How often a line is printed.
const LINE: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

/// What is watched: its name, and by how much the last quarter's median may be above the second's,
/// as a share of that and beyond.
const WATCHED: [(&str, f64, f64); 4] = [
    ("resident MiB", 0.1, 16.0),
    ("open files", 0.1, 32.0),
    ("threads", 0.1, 16.0),
    ("reviews in flight", 0.1, 16.0),
];

/// Everything that was seen, one sample a second.
pub(crate) struct Watch(Vec<[f64; WATCHED.len()]>);

impl Watch {
    /// Looks for so long, or until something has `ended` that should not.
    pub(crate) fn over(
        world: &World,
        tally: &Tally,
        length: Duration,
        ended: impl Fn() -> bool,
    ) -> Outcome<Self> {
        let begun = Instant::now();
        let (mut samples, mut told) = (Vec::new(), begun);
        while begun.elapsed() < length {
            if ended() {
                return Err(Failure::new("a part of the soak ended before its time"));
            }
            let sample = sample(world)?;
            samples.push(sample);
            if told.elapsed() >= LINE {
                told = Instant::now();
                let (answers, wrong) = tally.so_far();
                let seconds = begun.elapsed().as_secs();
                let [memory, files, threads, waiting] = sample;
                println!(
                    "{:>3}:{:02}  {answers} answers, {wrong} wrong; {memory:.1} MiB, {files} \
                     files, {threads} threads, {waiting} in flight",
                    seconds / 60,
                    seconds % 60
                );
            }
            thread::sleep(SECOND);
        }
        Ok(Self(samples))
    }

    /// Prints the table; whether nothing grew.
    pub(crate) fn print(&self) -> bool {
        let quarter = self.0.len() / 4;
        let median = |samples: &[[f64; WATCHED.len()]], part: usize| {
            let mut values: Vec<f64> = samples.iter().map(|sample| sample[part]).collect();
            values.sort_unstable_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        println!("{:20} {:>12} {:>12} {:>12}", "", "2nd quarter", "4th quarter", "most");
        let mut kept = true;
        for (part, (name, share, beyond)) in WATCHED.into_iter().enumerate() {
            // The first quarter fills caches.
            let before = median(&self.0[quarter..2 * quarter], part);
            let after = median(&self.0[3 * quarter..], part);
            let most = self.0.iter().map(|sample| sample[part]).fold(0.0, f64::max);
            let grew = after > before * (1.0 + share) + beyond || after.is_nan();
            let verdict = if grew { "GREW" } else { "" };
            println!("{name:20} {before:>12.1} {after:>12.1} {most:>12.1}  {verdict}");
            kept &= !grew;
        }
        kept
    }
}

fn sample(world: &World) -> Outcome<[f64; WATCHED.len()]> {
    let replica = world.replicas.first();
    let pid = replica.pid();
    Ok([
        usage::resident(pid)? as f64 / f64::from(1 << 20),
        usage::open_files(pid)? as f64,
        usage::threads(pid)? as f64,
        replica.metric("countersign_reviews_in_flight")?,
    ])
}
