//! Updates: whose turn it is, what is kept of them, and what is answered after them.

use countersign_verify::memory::Memory;
use countersign_verify::notary::Pin;
use countersign_verify::tuf::InitialRoot;

use super::*;
use crate::api::SourceKind;
use crate::http::Room;

/// What an update came to.
pub(super) struct Fetched {
    /// Answers who waits.
    pub(super) answer: Arc<Repository>,
    /// Is at hand from now on; `None` where the answer lacks something for the moment.
    pub(super) keep: Option<Arc<Repository>>,
    pub(super) files: Arc<set::Kept>,
    /// Nothing was signed since the set at hand.
    pub(super) is_unchanged: bool,
    /// It is the set at hand with more roles loaded, and no younger.
    pub(super) is_extension: bool,
}

/// What an update begins with.
#[derive(Clone, Copy)]
pub(super) struct At<'s> {
    pub(super) set: Option<&'s Set>,
    /// The set is current: only what it lacks is loaded.
    within: bool,
    /// What is to be loaded; first what who began the update needs.
    wants: &'s [Want],
    /// So many of them are theirs.
    own: usize,
    /// For the files that are fetched, until their set is at hand.
    pub(super) room: &'s Room,
    pub(super) deadline: Instant,
}

impl At<'_> {
    /// The same where so much is remembered. Where others have verified more since, what the set
    /// rests on does not count any more; where it was forgotten, the set must not bring it back.
    fn on_top_of(self, remembered: &Memory) -> Self {
        let is_forgotten = |set: &Set| {
            let own = set.repository.memory();
            own.is_forked_from(remembered) || remembered.clone().merged(own.clone()) != *remembered
        };
        let set = self.set.filter(|set| !is_forgotten(set));
        let is_newest = |set: &Set| !set.repository.superseded_by(remembered);
        Self { set, within: self.within && set.is_some_and(is_newest), ..self }
    }

    /// So much is verified by now.
    pub(super) fn verified(&self, memory: &Memory) {
        if let Some(set) = self.set {
            set.is_passed_by(memory, Instant::now());
        }
    }
}

/// The anchor of every TUF source, sha256 of `tuf`: roots follow one another, so whichever of them a
/// source begins with, nothing is forgotten. What contradicts it is refused until it is deleted.
const CHAIN: &str = "c42a4f1674e21a4dfc0d9167d8830ee922e364fa5d3571159954b86f59f34684";

/// What a chain of trust begins with.
enum Anchor<'a> {
    Pin(&'a Pin),
    Root { initial: &'a InitialRoot, max_delegations: usize },
}

impl<'a> Anchor<'a> {
    fn of(live: &'a Live) -> Result<Self, Refusal> {
        let unread = live.source.connection.unread.as_ref();
        let unread = || unavailable(live, unread.map_or(&"it has no initial root", |why| why));
        let anchor = match &live.source.kind {
            SourceKind::Notary { pins, .. } => Self::Pin(pins.find(&live.repository)?),
            SourceKind::Tuf { initial, max_delegations, .. } => {
                let initial = initial.as_ref().ok_or_else(unread)?;
                Self::Root { initial, max_delegations: *max_delegations }
            }
        };
        match live.source.connection.unread {
            Some(_) => Err(unread().into()),
            None => Ok(anchor),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Pin(pin) => pin.anchor(),
            Self::Root { .. } => CHAIN.to_owned(),
        }
    }
}

impl Shared {
    /// The answer of an update that has just failed.
    pub(super) fn answered(&self, live: &Live) -> Option<Result<Arc<Repository>, Refusal>> {
        let (since, answer) = self.answers.get(&live.key())?;
        let meets = |answer: &Arc<Repository>| live.is_met_by(answer, self.clock.now());
        let is_ours = answer.as_ref().map_or(true, meets);
        (since.elapsed() < NEGATIVE_LIFE && is_ours).then_some(answer)
    }

    /// The next update that a namespace's turn at the host comes to: one of its own, or the one
    /// that is under way by then.
    pub(super) async fn begun_or_joined(self: &Arc<Self>, live: &Live, namespace: &str) -> Flown {
        let asked = Arc::new(live.clone());
        let (shared, waits, holder) = (Arc::clone(self), Arc::clone(&asked), namespace.to_owned());
        let is_known = self.at_hand(live).is_some();
        let turn = async move {
            let host = waits.source.host();
            let turn = async {
                // Whoever makes names up keeps no turn from what was verified before.
                if is_known {
                    return Ok((Some(shared.gate.enter_due(host).await), None));
                }
                Ok((None, Some(shared.gate.enter(&host, &holder).await?)))
            };
            let waited = timeout(UPDATE_TIMEOUT, turn).await;
            waited.unwrap_or(Err(Unavailable::Overloaded)).map_err(|overloaded| {
                let older = shared.untried(&waits, overloaded);
                (waits, older)
            })
        };
        let (shared, asker) = (Arc::clone(self), Asker::current());
        let update = move || async move {
            // Whoever asked just after the last update ended finds its result.
            if let Some(set) = shared.current(&asked) {
                return (asked, Ok(Arc::clone(&set.repository)));
            }
            let within = shared.at_hand(&asked).is_some_and(|set| shared.is_current(&asked, &set));
            let span = asker.asks(span::update(&asked, false));
            let answer = shared.renew(&asked, within).instrument(span).await;
            (asked, answer)
        };
        let done = self.flights.run(live.set_key(), namespace, turn, update).await;
        let aborted = |why| (Arc::new(live.clone()), Err(unavailable(live, &why).into()));
        done.unwrap_or_else(aborted)
    }

    /// What an update says of what is asked for; `None` where it says nothing: it was begun for
    /// another version of the source, or before what is needed was known, or came to grief on what
    /// others need.
    pub(super) fn answer_of(
        &self,
        (asked, answer): Flown,
        live: &Live,
    ) -> Option<Result<Arc<Repository>, Refusal>> {
        if asked.source.fingerprint != live.source.fingerprint {
            return None;
        }
        match answer {
            Ok(answer) => live.is_met_by(&answer, self.clock.now()).then_some(Ok(answer)),
            Err(refusal) if tuf::is_too_much(&refusal) && asked.wants != live.wants => None,
            Err(refusal) => Some(self.instead(live, refusal)),
        }
    }

    /// The set that answers without an update, and has what is needed.
    pub(super) fn current(&self, live: &Live) -> Option<Arc<Set>> {
        self.at_hand(live).filter(|set| self.suffices(live, set))
    }

    pub(super) fn suffices(&self, live: &Live, set: &Set) -> bool {
        self.is_current(live, set) && live.is_met_by(&set.repository, self.clock.now())
    }

    fn is_current(&self, live: &Live, set: &Set) -> bool {
        set.is_current(&live.source, Instant::now(), self.clock.now())
    }

    /// An update, and what is answered after it, however it ends. Never extends trust: only a
    /// complete update makes the set at hand younger, and one `within` it does not.
    pub(super) async fn renew(
        self: &Arc<Self>,
        live: &Live,
        within: bool,
    ) -> Result<Arc<Repository>, Refusal> {
        let (begun, _under_way) = (Instant::now(), self.measures.updating());
        let attempt = self.outages.begin(live.source.fingerprint);
        let before = self.at_hand(live);
        let wants = self.wanted(live, before.as_deref());
        let set = before.as_deref();
        let (own, deadline) = (live.wants.len(), begun + UPDATE_TIMEOUT);
        let room = self.gate.room(live.source.host(), live.set_key());
        let at = At { set, within, wants: &wants, own, room: &room, deadline };
        let (fetched, computed) = computing(self.fetch(live, at)).await;
        let ended = |outcome| {
            self.measures.updated(outcome, begun.elapsed(), computed);
            Span::current().record("outcome", outcome);
        };
        match fetched {
            Ok(fetched) => {
                ended(match (fetched.is_unchanged, fetched.keep.is_some()) {
                    (true, _) => "unchanged",
                    (false, true) => "updated",
                    (false, false) => "failed",
                });
                attempt.succeeded();
                let answer = Arc::clone(&fetched.answer);
                let is_kept = fetched.keep.is_some();
                if let Some(repository) = fetched.keep {
                    match before.filter(|_| fetched.is_extension) {
                        Some(before) => self.extend(&before, repository),
                        None => self.put(live, repository, fetched.files, begun),
                    }
                }
                self.answer(live, answer, is_kept)
            }
            Err(refusal) => {
                ended("failed");
                if let Refusal::Unavailable(Unavailable::SourceUnavailable {
                    is_away: true, ..
                }) = refusal
                {
                    attempt.failed();
                }
                self.failed(live, refusal.code(), &cause(&refusal));
                let answer = self.instead(live, refusal);
                // How much one image needs says nothing of the others.
                if answer.as_ref().is_err_and(|refusal| !tuf::is_too_much(refusal)) {
                    self.answers.insert(live.key(), (Instant::now(), answer.clone()));
                }
                answer
            }
        }
    }

    /// What the update that begins now is to load: what its caller needs comes first.
    fn wanted(&self, live: &Live, before: Option<&Set>) -> Vec<Want> {
        let now = self.clock.now();
        let at_hand = before.and_then(|set| set.repository.tuf());
        let is_met = |want: &Want| at_hand.is_some_and(|at_hand| want.is_met_by(at_hand, now));
        let mut wants = live.wants.clone();
        for want in self.wants.take(&live.key(), is_met) {
            if !wants.contains(&want) {
                wants.push(want);
            }
        }
        wants
    }

    /// What is answered after an update that did not fail as a whole.
    fn answer(
        &self,
        live: &Live,
        answer: Arc<Repository>,
        is_kept: bool,
    ) -> Result<Arc<Repository>, Refusal> {
        if answer.is_complete() {
            return Ok(answer);
        }
        // A role that could not be fetched may be there for the next review.
        let cause = "a delegated role could not be read";
        if is_kept {
            let (source, repository) = (&live.source.name, &live.repository);
            // Told once a set, not once an attempt.
            if self.at_hand(live).is_none_or(|set| set.is_news("SourceUnavailable")) {
                tracing::warn!(source, repository, cause, "metadata is not complete");
            }
        } else {
            self.failed(live, "SourceUnavailable", cause);
            if let Some(Ok(older)) = self.without_update(live) {
                return Ok(older);
            }
        }
        let answer = Ok(answer);
        self.answers.insert(live.key(), (Instant::now(), answer.clone()));
        answer
    }

    fn failed(&self, live: &Live, code: &'static str, cause: &str) {
        Span::current().record("code", code);
        self.measures.update_failed(&live.source.name, code);
        let set = self.at_hand(live);
        let is_news = set.is_none_or(|set| set.failed(Instant::now(), code));
        let (source, repository) = (&live.source.name, &live.repository);
        // An outage is told once a set, not once an attempt; what it turns into, again.
        if is_news {
            tracing::warn!(source, repository, code, cause, "metadata was not updated");
        } else {
            tracing::debug!(source, repository, code, cause, "metadata was not updated");
        }
    }

    async fn fetch(&self, live: &Live, at: At<'_>) -> Result<Fetched, Refusal> {
        let anchor = Anchor::of(live)?;
        let servers = self.servers(live)?;
        let place = Place {
            source: live.source.name.clone(),
            repository: live.repository.clone(),
            anchor: anchor.name(),
        };
        let remembered = self.load(live, &place).await?;
        let before = at.set;
        let at = at.on_top_of(&remembered.memory);
        at.verified(&self.memory.stored(&place).await);
        let (memory, fetched) =
            self.verified(live, &anchor, &servers, &remembered.memory, &at).await;
        // Every verified step sticks, also of an update that fails later on, and before the new
        // set answers.
        let raised = self.raise(live, &place, &remembered, memory).await;
        let newest = match raised {
            Ok(newest) => newest,
            Err(unavailable) => {
                // What others have remembered passes the set all the same.
                let stored = self.memory.stored(&place).await;
                match before {
                    Some(set) if set.repository.superseded_by(&stored) => set.end(),
                    set => set.into_iter().for_each(Set::goes_on),
                }
                return Err(unavailable.into());
            }
        };
        let fetched = fetched.and_then(|fetched| {
            if fetched.answer.superseded_by(&newest) {
                let cause =
                    "another process has verified newer metadata than was fetched; try again";
                return Err(unavailable(live, &cause).into());
            }
            Ok(fetched)
        });
        let is_replaced = fetched.as_ref().is_ok_and(|it| it.keep.is_some() && !it.is_unchanged);
        let passed = before.filter(|set| !is_replaced && set.repository.superseded_by(&newest));
        passed.into_iter().for_each(Set::end);
        fetched
    }

    /// What is fetched and verified in the source's dialect, and what is to be remembered.
    async fn verified(
        &self,
        live: &Live,
        anchor: &Anchor<'_>,
        servers: &Servers,
        remembered: &Memory,
        at: &At<'_>,
    ) -> (Memory, Result<Fetched, Refusal>) {
        let now = self.clock.now();
        match (anchor, servers) {
            (Anchor::Pin(pin), Servers::Notary { endpoint, prefix }) => {
                let fetch = notary::Fetch::new(endpoint, prefix, live, pin, at);
                fetch.run(remembered, now).await
            }
            (Anchor::Root { initial, max_delegations }, Servers::Tuf(mirrors)) => {
                let at_hand = at.set.and_then(|set| set.repository.tuf());
                let begin = tuf::Begin {
                    source: &live.source.name,
                    initial,
                    max_delegations: *max_delegations,
                    at_hand,
                    within: at.within,
                    wants: at.wants,
                    own: at.own,
                    room: at.room,
                    verified: &|memory| at.verified(memory),
                    now,
                };
                let (memory, updated) = tuf::run(mirrors, begin, remembered, at.deadline).await;
                (memory, updated.map(|updated| of_tuf(updated, at_hand)))
            }
            // Both were made from one source.
            _ => (remembered.clone(), Err(unavailable(live, &"it is of two kinds").into())),
        }
    }

    async fn load(&self, live: &Live, place: &Place) -> Result<Remembered, Unavailable> {
        self.memory.load(place).await.map_err(|error| unavailable(live, &error))
    }

    pub(super) async fn raise(
        &self,
        live: &Live,
        place: &Place,
        loaded: &Remembered,
        memory: Memory,
    ) -> Result<Memory, Unavailable> {
        let raised = self.memory.raise(place, loaded, memory).await;
        raised.map_err(|error| unavailable(live, &error))
    }

    fn servers(&self, live: &Live) -> Result<Servers, Unavailable> {
        let source = &live.source;
        self.servers
            .try_get_with(source.fingerprint, || Servers::of(source, &self.measures))
            .map_err(|error| unavailable(live, &error))
    }
}

/// A role that could not be had is told to who waits, and loaded again for who asks next; the
/// others are there for all.
fn of_tuf(updated: tuf::Updated, at_hand: Option<&countersign_verify::tuf::Repository>) -> Fetched {
    let tuf::Updated { repository, is_extension } = updated;
    let is_unchanged = at_hand.is_some_and(|at_hand| repository.is_unchanged_since(at_hand));
    let whole = || Repository::Tuf(repository.without_unavailable());
    let whole = (!repository.is_complete()).then(|| Arc::new(whole()));
    let answer = Arc::new(Repository::Tuf(repository));
    let keep = Some(whole.unwrap_or_else(|| Arc::clone(&answer)));
    Fetched { answer, keep, files: Arc::default(), is_unchanged, is_extension }
}
