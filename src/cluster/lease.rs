//! Which replica writes: the one that holds a Lease.
//!
//! As client-go's leader election does it. `kube` has none, and the crates that do either compare
//! the replicas' clocks or go on claiming a lease that they can no longer renew.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::problem::{Told, because, is_conflict};

/// How long others leave a lease alone after it was last renewed. Source: client-go's default
/// `LeaseDuration`, as every controller of Kubernetes itself has it.
const DURATION: Duration = Duration::from_secs(15);

/// How long a replica claims it after it last began a renewal that succeeded; the rest of
/// [`DURATION`] is for what it is writing. Source: client-go's `RenewDeadline`.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often the lease is renewed or looked at. Source: client-go's `RetryPeriod`.
const RETRY: Duration = Duration::from_secs(2);

/// Longest wait for an answer: half of [`DEADLINE`], so that one lost request costs no lease.
const PATIENCE: Duration = Duration::from_secs(5);

/// A replica that wants to hold the lease.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// Someone else's lease as it was last found, and since when it has been so.
    seen: Option<(LeaseSpec, Instant)>,
}

/// What is to be done about the lease as it was found.
#[derive(Debug, PartialEq)]
enum Step {
    /// Write this: it makes the lease ours, or keeps it so.
    Write(Box<LeaseSpec>),
    /// It is someone else's.
    Leave,
}

/// What became of an attempt to take or renew the lease.
enum Attempt {
    Ours,
    Others,
    /// Someone wrote between reading and writing.
    Overtaken,
}

impl Candidate {
    /// Wants the Lease `name` in this namespace for `identity`, which no other replica has.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Takes, renews and loses the lease until `shutdown` is ready, and then gives it back.
    /// `holds` is true while this replica may rely on it.
    pub async fn run(mut self, holds: watch::Sender<bool>, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            never = self.campaign(&holds) => never,
        }
        let held = holds.send_replace(false);
        if held && let Err(problem) = self.give_back().await {
            tracing::warn!(%problem, "the lease could not be given back: it runs out by itself");
        }
    }

    async fn campaign(&mut self, holds: &watch::Sender<bool>) -> ! {
        let mut told = Told::default();
        // Until when the lease is ours whatever happens.
        let mut until: Option<Instant> = None;
        loop {
            // Counted from before the request: nobody knows when it was written.
            let begun = Instant::now();
            let patience = begun + PATIENCE;
            let patience = until.map_or(patience, |until| until.min(patience));
            match timeout_at(patience, self.attempt()).await {
                Ok(Ok(Attempt::Ours)) => {
                    told.clear();
                    until = Some(begun + DEADLINE);
                }
                Ok(Ok(Attempt::Others)) => {
                    told.clear();
                    until = None;
                }
                // Whoever wrote in between did not take it from us: it has not run out yet.
                Ok(Ok(Attempt::Overtaken)) => {}
                Ok(Err(problem)) => told.tell("the lease cannot be had", &problem),
                Err(_) => told.tell("the lease cannot be had", "no answer in time"),
            }
            let next = begun + RETRY;
            claim(holds, until);
            sleep_until(until.map_or(next, |until| until.min(next))).await;
            claim(holds, until);
            until = until.filter(|until| Instant::now() < *until);
            sleep_until(next).await;
        }
    }

    async fn attempt(&mut self) -> Result<Attempt, String> {
        let found = self.api.get_opt(&self.name).await.map_err(|error| because(&error))?;
        let spec = found.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        // As of now: what was read is not older than the answer.
        let Step::Write(spec) = self.step(&spec, Instant::now(), Timestamp::now()) else {
            return Ok(Attempt::Others);
        };
        let spec = Some(*spec);
        let written = match found {
            Some(lease) => self.replace(Lease { spec, ..lease }).await,
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..Default::default() };
                self.api.create(&PostParams::default(), &Lease { metadata, spec }).await
            }
        };
        match written {
            Ok(_) => Ok(Attempt::Ours),
            Err(error) if is_conflict(&error) => Ok(Attempt::Overtaken),
            Err(error) => Err(because(&error)),
        }
    }

    /// The resourceVersion that was read is in it, so that of two writers one fails.
    async fn replace(&self, lease: Lease) -> kube::Result<Lease> {
        self.api.replace(&self.name, &PostParams::default(), &lease).await
    }

    /// What to do about this lease. Others' clocks are not read: a lease has run out when it was
    /// seen unchanged for as long as it lasts.
    fn step(&mut self, found: &LeaseSpec, now: Instant, time: Timestamp) -> Step {
        let holder = found.holder_identity.as_deref().unwrap_or_default();
        if holder == self.identity {
            let acquire_time = found.acquire_time.clone();
            return Step::Write(Box::new(LeaseSpec { acquire_time, ..self.taken(found, time) }));
        }
        if !holder.is_empty() {
            let since = match &self.seen {
                Some((seen, since)) if seen == found => *since,
                _ => {
                    self.seen = Some((found.clone(), now));
                    now
                }
            };
            let seconds = found.lease_duration_seconds.and_then(|seconds| seconds.try_into().ok());
            let lasts = seconds.map_or(DURATION, Duration::from_secs);
            if now.duration_since(since) < lasts {
                return Step::Leave;
            }
        }
        let transitions = found.lease_transitions.map_or(0, |count| count.saturating_add(1));
        let taken = self.taken(found, time);
        Step::Write(Box::new(LeaseSpec { lease_transitions: Some(transitions), ..taken }))
    }

    fn taken(&self, found: &LeaseSpec, time: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: Some(MicroTime(time)),
            renew_time: Some(MicroTime(time)),
            ..found.clone()
        }
    }

    async fn give_back(&self) -> Result<(), String> {
        let giving = async {
            while let Err(error) = self.write_released().await {
                if !is_conflict(&error) {
                    return Err(because(&error));
                }
            }
            Ok(())
        };
        timeout(RETRY, giving).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// As client-go releases a lease: nobody's, and over in a second.
    async fn write_released(&self) -> kube::Result<()> {
        let lease = self.api.get(&self.name).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        };
        self.replace(Lease { spec: Some(spec), ..lease }).await.map(drop)
    }
}

/// Tells whether the lease is ours, where that has changed.
fn claim(holds: &watch::Sender<bool>, until: Option<Instant>) {
    let ours = until.is_some_and(|until| Instant::now() < until);
    let changed = holds.send_if_modified(|holds| std::mem::replace(holds, ours) != ours);
    match (changed, ours) {
        (true, true) => tracing::info!("this replica holds the lease: it writes"),
        (true, false) => tracing::warn!("this replica no longer holds the lease"),
        (false, _) => {}
    }
}

#[cfg(test)]
mod tests;
