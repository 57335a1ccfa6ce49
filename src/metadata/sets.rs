//! Which sets are at hand.

use moka::Entry;
use moka::ops::compute::{CompResult, Op};

use super::*;

impl Shared {
    /// The set that holds in the repository's source as it is asked for.
    pub(super) fn at_hand(&self, live: &Live) -> Option<Arc<Set>> {
        self.sets.get(&live.set_key()).filter(|set| set.live.holds_in(&live.source))
    }

    pub(super) fn without_update(&self, live: &Live) -> Option<Result<Arc<Repository>, Refusal>> {
        let (set, time) = (self.at_hand(live)?, self.clock.now());
        if !live.is_met_by(&set.repository, time) {
            return None;
        }
        set.without_update(&live.source, Instant::now(), time)
    }

    /// Swaps a fuller set in, which is no younger; nothing, where the one before has gone.
    pub(super) fn extend(&self, before: &Arc<Set>, repository: Arc<Repository>) {
        let is_there = |now: Option<Entry<SetKey, Arc<Set>>>| {
            now.is_some_and(|now| Arc::ptr_eq(now.value(), before))
        };
        let entry = self.sets.entry(before.live.set_key());
        let done = entry.and_compute_with(|now| match is_there(now) {
            true => Op::Put(Arc::new(before.extended(repository))),
            false => Op::Nop,
        });
        if let CompResult::ReplacedWith(entry) = done {
            self.settle(entry.key(), entry.value());
        }
    }

    /// Swaps a set in, and tells the warnings that the one before did not have.
    pub(super) fn put(
        self: &Arc<Self>,
        live: &Live,
        repository: Arc<Repository>,
        files: Arc<set::Kept>,
        complete: Instant,
    ) {
        let key = live.set_key();
        let before = self.sets.get(&key);
        let told = before.as_ref().map_or(&[][..], |set| set.repository.warnings());
        let (source, name) = (&live.source.name, &live.repository);
        for warning in repository.warnings().iter().filter(|warning| !told.contains(warning)) {
            tracing::warn!(source, repository = name, "{warning}");
        }
        if before.as_ref().is_some_and(|set| set.failures() > 0) {
            tracing::info!(source, repository = name, "metadata is updated again");
        }
        let attention = before.map(|set| Arc::clone(&set.attention));
        let is_new = attention.is_none();
        let attention =
            attention.unwrap_or_else(|| Arc::new(Attention::new(&live.source, Instant::now())));
        let set = Set::new(live.clone(), repository, files, complete, Arc::clone(&attention));
        let set = Arc::new(set);
        self.sets.insert(key.clone(), Arc::clone(&set));
        self.settle(&key, &set);
        if is_new {
            let (shared, cared_for) = (Arc::downgrade(self), Arc::downgrade(&attention));
            let keeper = tokio::spawn(refresh::keep(shared, key, cared_for));
            attention.keep_by(keeper.abort_handle());
        }
    }

    pub(super) fn retain(&self, sources: &BTreeMap<String, Arc<Source>>) {
        self.sources.store(Some(Arc::new(sources.clone())));
        for (key, set) in &self.sets {
            self.settle(&key, &set);
        }
        let gone = |fingerprint: &[u8; 32]| {
            !sources.values().any(|source| source.fingerprint == *fingerprint)
        };
        let servers = self.servers.iter().map(|(fingerprint, _)| fingerprint);
        servers.filter(|it| gone(it)).for_each(|it| self.servers.invalidate(&*it));
        self.wants.retain(|(fingerprint, _)| !gone(fingerprint));
    }

    /// A set goes on in its source as that is now, or goes. Once it is there, so that either who puts
    /// it there or who takes the source away sees it.
    fn settle(&self, key: &SetKey, set: &Set) {
        let sources = self.sources.load();
        let source = match &*sources {
            Some(sources) => sources.get(&key.0).filter(|source| set.live.holds_in(source)),
            None => Some(&set.live.source),
        };
        match source {
            Some(source) => set.attention.goes_on_in(source),
            None => self.sets.invalidate(key),
        }
    }
}

#[cfg(test)]
mod tests;
