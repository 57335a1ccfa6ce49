//! What the replicas take of the machine, second by second, and whether that grows. The second one is
//! killed and starts anew, over and over: of it, whether one that starts takes more than those before.

use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::{Failure, Outcome, usage};

use crate::replicas::Replica;
use crate::tally::Tally;
use crate::world::World;

/// How often a line is printed.
const LINE: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

/// What is watched of each replica: its name, and by how much the last quarter's median may be above
/// the second's, as a share of that and beyond.
const WATCHED: [(&str, f64, f64); 4] = [
    ("resident MiB", 0.1, 16.0),
    ("open files", 0.1, 32.0),
    ("threads", 0.1, 16.0),
    ("reviews in flight", 0.1, 16.0),
];

/// In the order of [`WATCHED`].
type Taken = [f64; WATCHED.len()];

/// What the first replica takes, and the second where it is running.
struct Sample(Taken, Option<Taken>);

/// Everything that was seen, one sample a second.
pub(crate) struct Watch(Vec<Sample>);

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
            if told.elapsed() >= LINE {
                told = Instant::now();
                tell(&sample, tally, begun.elapsed().as_secs());
            }
            samples.push(sample);
            thread::sleep(SECOND);
        }
        Ok(Self(samples))
    }

    /// Prints the table; whether nothing grew.
    pub(crate) fn print(&self) -> bool {
        println!("{:28} {:>12} {:>12} {:>12}", "", "2nd quarter", "4th quarter", "most");
        let first = print("first", &self.taken(|sample| Some(sample.0)));
        let second = print("second", &self.taken(|sample| sample.1));
        first && second
    }

    /// By quarter.
    fn taken(&self, of: impl Fn(&Sample) -> Option<Taken>) -> [Vec<Taken>; 4] {
        let quarter = self.0.len() / 4;
        [0, 1, 2, 3].map(|number| {
            self.0.iter().skip(number * quarter).take(quarter).filter_map(&of).collect()
        })
    }
}

/// Prints what one replica took in each quarter; whether that did not grow. The first quarter fills
/// caches.
fn print(replica: &str, quarters: &[Vec<Taken>; 4]) -> bool {
    let median = |samples: &[Taken], part: usize| {
        let mut values: Vec<f64> = samples.iter().map(|sample| sample[part]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let mut kept = true;
    for (part, (name, share, beyond)) in WATCHED.into_iter().enumerate() {
        let (before, after) = (median(&quarters[1], part), median(&quarters[3], part));
        let most = quarters.iter().flatten().map(|sample| sample[part]).fold(0.0, f64::max);
        let grew = after > before * (1.0 + share) + beyond || after.is_nan() || before.is_nan();
        let verdict = if grew { "GREW" } else { "" };
        let name = format!("{replica}: {name}");
        println!("{name:28} {before:>12.1} {after:>12.1} {most:>12.1}  {verdict}");
        kept &= !grew;
    }
    kept
}

fn tell(sample: &Sample, tally: &Tally, seconds: u64) {
    let (answers, wrong) = tally.so_far();
    let [memory, files, threads, waiting] = sample.0;
    let second =
        sample.1.map_or_else(|| "not running".to_owned(), |it| format!("{:.1} MiB", it[0]));
    println!(
        "{:>3}:{:02}  {answers} answers, {wrong} wrong; {memory:.1} MiB, {files} files, {threads} \
         threads, {waiting} in flight; the second: {second}",
        seconds / 60,
        seconds % 60
    );
}

fn sample(world: &World) -> Outcome<Sample> {
    let first = taken(world.replicas.first())?;
    let second = match world.replicas.second_if_running() {
        None => None,
        Some(second) => match taken(&second) {
            Err(_) if second.is_killed() => None,
            taken => Some(taken?),
        },
    };
    Ok(Sample(first, second))
}

fn taken(replica: &Replica) -> Outcome<Taken> {
    let pid = replica.pid();
    Ok([
        usage::resident(pid)? as f64 / f64::from(1 << 20),
        usage::open_files(pid)? as f64,
        usage::threads(pid)? as f64,
        replica.metric("countersign_reviews_in_flight")?,
    ])
}
