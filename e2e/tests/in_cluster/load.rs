//! Pods created through the API server without pause, signed and unsigned ones, for real and not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::pod;
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

use crate::cluster::{Namespace, SOON};

/// How many clients there are.
const CLIENTS: usize = 4;

/// How long each waits between requests: two cores also have to run the cluster.
const PACE: Duration = Duration::from_millis(20);

/// How many requests show that the load goes on.
const GOING: usize = 20;

/// What the requests of some time got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Signed pods let in, and unsigned pods refused as such.
    pub(crate) right: usize,
    /// When Countersign was not reached, and what the API server said: it refused.
    pub(crate) unreached: Vec<(Instant, String)>,
    /// Everything else.
    pub(crate) wrong: Vec<String>,
    /// The longest wait for an answer.
    pub(crate) longest: Duration,
}

/// Does something under load, once that goes on. Fails on any wrong verdict.
pub(crate) fn under_load(
    namespace: &Namespace<'_>,
    during: impl FnOnce() -> Outcome<()>,
) -> Outcome<Tally> {
    static LOADS: AtomicUsize = AtomicUsize::new(0);
    let load = LOADS.fetch_add(1, Ordering::Relaxed);
    let (stop, tally) = (AtomicBool::new(false), Mutex::new(Tally::default()));
    let client = |number: usize| -> Outcome<()> {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let judged = ask(namespace, &format!("load-{load}-{number}-{count}"), count)?;
            let mut tally = tally.lock().ok().context("a client panicked")?;
            tally.longest = tally.longest.max(began.elapsed());
            match judged {
                Judged::Right => tally.right += 1,
                Judged::Unreached(said) => tally.unreached.push((began, said)),
                Judged::Wrong(said) => tally.wrong.push(said),
            }
            drop(tally);
            count += 1;
            thread::sleep(PACE);
        }
        Ok(())
    };
    let (done, clients) = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let running = Load(&stop);
        let going = || Ok(tally.lock().ok().context("a client panicked")?.right >= GOING);
        let done = wait_until("the load to begin", SOON, going).and_then(|()| during());
        drop(running);
        (done, clients.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>())
    });
    for client in clients {
        client.ok().context("a client panicked")??;
    }
    done?;
    let tally = tally.into_inner().ok().context("a client panicked")?;
    assert!(tally.wrong.is_empty(), "{} right; wrong: {:#?}", tally.right, tally.wrong);
    Ok(tally)
}

/// Ends the load when dropped: also where a test fails meanwhile.
struct Load<'a>(&'a AtomicBool);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Judged {
    Right,
    Unreached(String),
    Wrong(String),
}

/// One request: by turns signed and unsigned; of four, one that is stored.
fn ask(namespace: &Namespace<'_>, name: &str, count: usize) -> Outcome<Judged> {
    let signed = count.is_multiple_of(2);
    let image = if signed { namespace.good() } else { namespace.bad() };
    let mut pod = pod(name, &image);
    // No node has it: the pod is created like any other, and takes no room.
    pod["spec"]["nodeSelector"] = json!({"example.com/nowhere": "true"});
    let (status, answer) =
        if count % 8 < 2 { namespace.create(&pod)? } else { namespace.dry(&pod)? };
    Ok(judge(namespace, signed, status, &answer))
}

fn judge(namespace: &Namespace<'_>, signed: bool, status: u16, answer: &Value) -> Judged {
    let message = answer["message"].as_str().unwrap_or_default();
    let pinned = answer["spec"]["containers"][0]["image"] == namespace.pinned();
    let unsigned = message.contains("denied by TrustPolicy \"payments\": Unsigned");
    match (status, signed) {
        (201, true) if pinned => Judged::Right,
        (400..500, false) if unsigned => Judged::Right,
        // failurePolicy: Fail.
        (500, _) if message.contains("failed calling webhook") => {
            Judged::Unreached(message.to_owned())
        }
        _ => Judged::Wrong(format!("signed: {signed}, {status} {answer}")),
    }
}
