//! A server, the repositories that are read from it, and time that passes only when it is told to.

use std::cell::Cell;
use std::sync::mpsc;
use std::time::Duration;

use countersign::clock::Clock;
use countersign::metadata::{OfSource, Repository};
use countersign::registry::{Registry, RegistryConfig};
use countersign::review::Reviewer;
use countersign::snapshot::Snapshot;
use countersign_verify::image::{Digest, Pattern};
use countersign_verify::notary::{self, Wanted};
use countersign_verify::policy::{
    Action, Authority, Lookup, NamespaceSelector, Policy, PolicySet, Rule, Tags,
};
use jiff::Timestamp;
use tokio::time::Instant;

use super::*;
use crate::builder::{Files, digest};

thread_local! {
    static TIME: Cell<Option<Timestamp>> = const { Cell::new(None) };
}

/// The machine's clock, of the test that runs on this thread.
fn clock() -> Timestamp {
    TIME.get().unwrap_or_else(now)
}

/// How long a test waits for what goes on while no time passes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) repositories: Repositories,
    pub(crate) live: Live,
    // While a blocking task runs, paused time does not move by itself: sockets go on in no time.
    _held: mpsc::Sender<()>,
}

impl World {
    /// A server with these files of [`GUN`], refreshed after a minute, refused after `refuse`.
    pub(crate) async fn new(repo: &Repo, refuse: Duration) -> Self {
        Self::of(Server::start().await, repo, refuse)
    }

    /// The same with so many bytes of memory for sets.
    pub(crate) async fn keeping(bytes: u64, repo: &Repo) -> Self {
        let world = Self::new(repo, 60 * MINUTE).await;
        let clock = Arc::new(Clock::reading(clock));
        let repositories = Repositories::keeping(bytes, MemoryStore::in_process(), clock);
        Self { repositories, ..world }
    }

    /// The same that remembers there.
    pub(crate) async fn remembering(memory: MemoryStore, repo: &Repo) -> Self {
        let world = Self::new(repo, 60 * MINUTE).await;
        let repositories = Repositories::new(memory, Arc::new(Clock::reading(clock)));
        Self { repositories, ..world }
    }

    /// Who denies images that its source does not sign.
    pub(crate) fn denying(&self) -> Arc<Reviewer> {
        self.reviewer(&[(Action::Deny, &self.live.source)])
    }

    /// Who reviews images by policies that do this where a source does not sign them.
    pub(crate) fn reviewer(&self, policies: &[(Action, &Arc<Source>)]) -> Arc<Reviewer> {
        let named =
            |(_, source): &(Action, &Arc<Source>)| (source.name.clone(), Arc::clone(source));
        let snapshot = Snapshot {
            policies: PolicySet::new(policies.iter().map(|it| policy(it.0, &it.1.name)).collect()),
            sources: policies.iter().map(named).collect(),
            ..Snapshot::default()
        };
        let registry = Registry::new(RegistryConfig::default());
        let clock = Arc::new(Clock::reading(clock));
        let repositories = self.repositories.clone();
        Arc::new(Reviewer::new(snapshot, repositories, registry, Action::Deny, clock))
    }

    fn of(server: Server, repo: &Repo, refuse: Duration) -> Self {
        let (held, until_dropped) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || until_dropped.recv());
        server.serve(GUN, &repo.seal());
        let mut live = live(&server, GUN, &repo.pin(), MINUTE);
        Arc::make_mut(&mut live.source).refuse_after = refuse;
        let clock = Arc::new(Clock::reading(clock));
        let repositories = Repositories::new(MemoryStore::in_process(), clock);
        Self { server, repositories, live, _held: held }
    }

    /// A review's way: what is at hand, or else an update. And how long it took: an update takes
    /// some time, though none passes.
    pub(crate) async fn ask(&self) -> (Result<Arc<Repository>, Refusal>, Duration) {
        self.ask_for(&self.live).await
    }

    pub(crate) async fn ask_for(
        &self,
        live: &Live,
    ) -> (Result<Arc<Repository>, Refusal>, Duration) {
        if let Some(current) = self.repositories.current(live) {
            return (Ok(current), Duration::ZERO);
        }
        let (repositories, live) = (self.repositories.clone(), live.clone());
        let begun = Instant::now();
        let update = tokio::spawn(async move { repositories.update(&live, "payments").await });
        while !update.is_finished() {
            self.settle().await;
            if !update.is_finished() {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
        }
        (update.await.expect("no panic"), begun.elapsed().max(Duration::from_millis(1)))
    }

    /// Lets time pass, in steps of a second; of a minute where it is more than half an hour.
    pub(crate) async fn pass(&self, time: Duration) {
        let step = Duration::from_secs(if time < MINUTE * 30 { 1 } else { 60 });
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::advance(step).await;
            self.settle().await;
        }
    }

    /// Sets the machine's clock.
    pub(crate) fn set_clock(time: &str) {
        TIME.set(Some(builder::time(time)));
    }

    /// Lets what goes on without time passing go on: updates end, unless they wait for time to
    /// pass or for the server.
    pub(crate) async fn settle(&self) {
        for _ in 0..100 {
            let moment = || std::thread::sleep(Duration::from_millis(2));
            tokio::task::spawn_blocking(moment).await.expect("no panic");
            if self.repositories.measures().updates_in_flight() == 0 || self.server.is_held() {
                return;
            }
        }
    }

    /// The sets at hand of its source.
    pub(crate) fn sets(&self) -> OfSource {
        self.repositories.by_source().remove(&self.live.source.name).unwrap_or_default()
    }

    /// Waits until this holds, while no time passes.
    pub(crate) async fn until(&self, mut holds: impl FnMut() -> bool) {
        let begun = std::time::Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "it does not come to hold");
            self.settle().await;
        }
    }

    pub(crate) fn serve(&self, files: &Files) {
        self.server.serve(GUN, files);
    }
}

/// For all images, by Docker's lookup in one source.
fn policy(action: Action, source: &str) -> Policy {
    let authority = Authority {
        name: "release-team".to_owned(),
        source: source.to_owned(),
        usable: Ok(()),
        lookup: Lookup::Notary(notary::Lookup::Docker),
    };
    Policy {
        name: format!("by-{source}"),
        include: vec![Pattern::parse("registry.example.com/**").expect("a pattern")],
        exclude: Vec::new(),
        namespaces: NamespaceSelector::default(),
        action,
        tags: Tags::PinDigest,
        rule: Rule::Verify { min_authorities: 1, authorities: vec![authority] },
        exceptions: Vec::new(),
        disclose: false,
        help: None,
    }
}

/// Whether `tag` is signed for the image of this word, in a set.
pub(crate) fn signs(set: &Repository, tag: &str, word: &str) -> bool {
    let digest: Digest = digest(word);
    let wanted = Wanted::Tag { tag, digest: &digest, size: None };
    set.notary().expect("of Notary").find(&notary::Lookup::Docker, wanted, clock()).is_ok()
}
