//! Many reviews at the same time, over several connections, and what became of each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::{Outcome, http, reviews};

/// What is counted of a review that was let in.
pub const ADMITTED: &str = "admitted";

/// Who sends. It may send several floods, one after the other or side by side.
pub struct Flood {
    runtime: Runtime,
    clients: Vec<Client>,
    url: String,
}

/// How long answers took, in ascending order, by their code or [`ADMITTED`]; by what went wrong
/// where there was no verdict.
#[derive(Debug, Default, Clone)]
pub struct Answers(BTreeMap<String, Vec<Duration>>);

impl Flood {
    /// Sends to the server at `url`, whose certificate is from this authority, over so many
    /// connections.
    pub fn new(url: &str, authority: &Path, connections: usize) -> Outcome<Self> {
        let clients = (0..connections).map(|_| http::async_client(authority));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime, clients: clients.collect::<Outcome<_>>()?, url: url.to_owned() })
    }

    /// Sends these reviews to a path, as `/validate?timeout=5s`, so many at a time, and waits for
    /// all answers.
    pub fn send<I>(&self, path: &str, reviews: I, at_once: usize) -> Outcome<Answers>
    where
        I: IntoIterator<Item = String>,
        I::IntoIter: Send + 'static,
    {
        let url = format!("{}{path}", self.url);
        let left = Arc::new(Mutex::new(reviews.into_iter()));
        let answers = Arc::new(Mutex::new(Answers::default()));
        self.runtime.block_on(async {
            let mut sending = JoinSet::new();
            for number in 0..at_once {
                let client = self.clients[number % self.clients.len()].clone();
                let (url, left, answers) = (url.clone(), Arc::clone(&left), Arc::clone(&answers));
                sending.spawn(async move {
                    loop {
                        let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(review) = next else { return };
                        let answer = timed(&client, &url, review).await;
                        answers.lock().unwrap_or_else(PoisonError::into_inner).add(answer);
                    }
                });
            }
            while sending.join_next().await.transpose()?.is_some() {}
            Outcome::Ok(())
        })?;
        let answers = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(answers.sorted())
    }

    /// Sends this review over each connection. Before there is one, of many reviews that are sent at
    /// once each opens its own.
    pub fn connect(&self, path: &str, review: &str) -> Outcome<()> {
        let count = self.clients.len();
        self.send(path, vec![review.to_owned(); count], count).map(drop)
    }

    /// Sends one of these reviews every so often, whether or not those before have been answered,
    /// and waits for all answers.
    pub fn send_every(
        &self,
        pause: Duration,
        path: &str,
        reviews: impl Iterator<Item = String>,
    ) -> Outcome<Answers> {
        let url = format!("{}{path}", self.url);
        self.runtime.block_on(async {
            let (mut due, mut sending) = (interval(pause), JoinSet::new());
            for (client, review) in self.clients.iter().cycle().zip(reviews) {
                due.tick().await;
                let (client, url) = (client.clone(), url.clone());
                sending.spawn(async move { timed(&client, &url, review).await });
            }
            let mut answers = Answers::default();
            while let Some(answer) = sending.join_next().await.transpose()? {
                answers.add(answer);
            }
            Ok(answers.sorted())
        })
    }
}

/// What became of a review, and how long that took.
async fn timed(client: &Client, url: &str, review: String) -> (String, Duration) {
    let asked = Instant::now();
    let code = ask(client, url, review).await;
    (code, asked.elapsed())
}

async fn ask(client: &Client, url: &str, review: String) -> String {
    let request = client.post(url).header("content-type", "application/json").body(review);
    let answered = async {
        let answer = request.send().await?.error_for_status()?;
        reviews::verdict(&answer.text().await?)
    };
    match answered.await {
        Ok(verdict) if verdict.allowed => ADMITTED.to_owned(),
        Ok(verdict) => verdict.code().to_owned(),
        Err(failure) => format!("no verdict: {failure}"),
    }
}

impl Answers {
    fn add(&mut self, (code, took): (String, Duration)) {
        self.0.entry(code).or_default().push(took);
    }

    fn sorted(mut self) -> Self {
        self.0.values_mut().for_each(|times| times.sort_unstable());
        self
    }

    /// How many there were of this code.
    pub fn count(&self, code: &str) -> usize {
        self.0.get(code).map_or(0, Vec::len)
    }

    /// How many there were.
    pub fn all(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there were any, and none but of these codes.
    pub fn only(&self, codes: &[&str]) -> bool {
        !self.0.is_empty() && self.0.keys().all(|code| codes.contains(&code.as_str()))
    }

    /// The time within which this share of the answers of a code came; zero where there are none.
    pub fn within(&self, code: &str, share: f64) -> Duration {
        let times = self.0.get(code).map_or(&[][..], Vec::as_slice);
        let rank = (times.len() as f64 * share).ceil() as usize;
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (code, times)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "; " };
            let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| self.within(code, share));
            let count = times.len();
            write!(f, "{comma}{count} {code}: median {p50:.1?}, p99 {p99:.1?}, most {most:.1?}")?;
        }
        Ok(())
    }
}
