//! Load from a program that has the HTTP stack of an API server, so that a figure tells what an API
//! server would see: its own work for a request and an answer is in all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign_e2e::{Context, Outcome, process};
use serde::Deserialize;

/// What is asked, of whom, and what the answer has to hold.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    url: String,
    authority: PathBuf,
    review: PathBuf,
    wanted: &'static str,
    http1: bool,
}

/// Whether connections have had a review before anything is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Cold,
    Warm,
}

impl Target {
    /// Reviews sent to `path` on a loopback port; every answer has to be a 200 that contains
    /// `wanted`. `authority` is the PEM file of the server's authority; the review is kept in a
    /// file in `folder`.
    pub(crate) fn new(
        (port, path): (u16, &str),
        review: &str,
        wanted: &'static str,
        authority: &Path,
        folder: &Path,
    ) -> Outcome<Self> {
        let file = tempfile::Builder::new().prefix("review").tempfile_in(folder)?;
        let (_, file) = file.keep()?;
        fs::write(&file, review)?;
        let url = format!("https://localhost:{port}{path}?timeout=10s");
        Ok(Self { url, authority: authority.to_owned(), review: file, wanted, http1: false })
    }

    /// The same over HTTP/1.1, as API servers speak to webhooks.
    pub(crate) fn http1(&self) -> Self {
        Self { http1: true, ..self.clone() }
    }

    /// Sends `requests` reviews over `connections` open connections. Fails where an answer is not
    /// the wanted one.
    pub(crate) fn ask(&self, connections: usize, requests: usize, start: Start) -> Outcome<Sample> {
        // The Makefile builds it into this program's folder.
        let program = std::env::current_exe()?.with_file_name("countersign-load");
        let mut command = Command::new(program);
        command.arg("-url").arg(&self.url).arg("-authority").arg(&self.authority);
        command.arg("-review").arg(&self.review).arg("-wanted").arg(self.wanted);
        command.arg("-connections").arg(connections.to_string());
        command.arg("-requests").arg(requests.to_string());
        if self.http1 {
            command.arg("-http1");
        }
        if start == Start::Warm {
            command.arg("-warm");
        }
        let printed = process::run(&mut command, "")?.success()?.stdout;
        let mut sample: Sample = serde_json::from_str(&printed).context("the load's report")?;
        sample.nanos.sort_unstable();
        Ok(sample)
    }
}

/// What one round of load found.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Sample {
    took_nanos: u64,
    /// Every answer's time, in ascending order.
    nanos: Vec<u64>,
}

impl Sample {
    /// From the first request to the last answer.
    pub(crate) fn took(&self) -> Duration {
        Duration::from_nanos(self.took_nanos)
    }

    /// Answers a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.nanos.len() as f64 / self.took().as_secs_f64()
    }

    /// The time within which this share of answers came, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.nanos.len() as f64 * share).ceil() as usize;
        let nanos = self.nanos[rank.clamp(1, self.nanos.len()) - 1];
        nanos as f64 / 1_000.0
    }
}
