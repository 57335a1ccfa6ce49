//! What a replica knows of checkpoints: what the API server has, and the floors that hold.

use std::collections::{BTreeMap, HashMap};

use countersign_verify::notary::Memory;
use kube::runtime::watcher::Event;

use super::object::{self, Read};
use super::{CHECKPOINTS, CheckpointError};
use crate::api::TrustCheckpointSpec;
use crate::api::bounds::CHECKPOINT_ROLES;
use crate::metadata::{Place, Remembered};

/// So many roles of a checkpoint count as one: an ordinary repository has no more, and an object
/// with all roles that there may be takes as much memory as sixteen of those.
const COUNTED_ROLES: usize = 8;

/// Where a source is full so much is there for what has been seen to gain roles, and not for what
/// has not: whoever fills it must not keep others from delegating. It is a bound all the same:
/// [`CHECKPOINTS`] with all roles that there may be would take a replica a gigabyte.
const GROWN: usize = 2 * CHECKPOINTS;

/// All checkpoints by name.
#[derive(Debug, Default)]
pub(super) struct Known {
    entries: HashMap<String, Entry>,
    /// How many there are of each source, as they count.
    counts: BTreeMap<String, usize>,
    /// How many lists were begun.
    lists: u64,
    /// What a list that is not complete yet has told.
    listing: BTreeMap<String, Read>,
    listed: bool,
}

/// One checkpoint.
#[derive(Debug, Default)]
struct Entry {
    /// The most that this replica has verified, or seen in the object, since it was last deleted.
    floors: Remembered,
    /// The object, where there is one.
    stored: Option<Stored>,
}

#[derive(Debug)]
struct Stored {
    read: Read,
    /// Whether the watch has told it; else it is from the answer to a request.
    told: bool,
    /// The lists begun by then: a later list without it says that it was deleted.
    lists: u64,
}

/// What is to be done so that the API server has a floor.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing: these are the floors.
    Done(Memory),
    /// Make the object.
    Create(TrustCheckpointSpec),
    /// Change this object.
    Change { stored: Read, spec: TrustCheckpointSpec },
}

impl Known {
    /// Whether a full list was there.
    pub(super) fn listed(&self) -> bool {
        self.listed
    }

    /// The floors of a place.
    pub(super) fn load(&self, name: &str, place: &Place) -> Result<Remembered, CheckpointError> {
        let Some(entry) = self.entries.get(name) else { return Ok(Remembered::default()) };
        entry.check(name, place)?;
        Ok(entry.floors.clone())
    }

    /// What the API server has of it.
    pub(super) fn stored(&self, name: &str) -> Memory {
        let stored = self.entries.get(name).and_then(|entry| entry.stored.as_ref());
        let spec = stored.and_then(|stored| stored.read.spec.as_ref().ok());
        spec.map(object::memory).unwrap_or_default()
    }

    /// How many there are of each source, as they count.
    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.clone()
    }

    /// Raises the floors of a place and says what is to be written then. The floors hold whether or
    /// not it can be written: they only restrict. `memory` rests on what was `loaded`.
    pub(super) fn plan(
        &mut self,
        name: &str,
        place: &Place,
        loaded: &Remembered,
        memory: &Memory,
    ) -> Result<Step, CheckpointError> {
        let count = self.counts.get(object::source(name)).copied().unwrap_or(0);
        self.change(name, |entry| {
            if entry.floors.resets != loaded.resets {
                return Err(CheckpointError::Deleted { name: name.to_owned() });
            }
            let (before, counted) = (entry.floors.memory.clone(), entry.counts());
            entry.floors.raise(memory.clone());
            let is_more = entry.counts() > counted;
            let most = if counted == 0 { CHECKPOINTS } else { GROWN };
            let refused = if entry.floors.memory.roles.len() > CHECKPOINT_ROLES {
                Some(CheckpointError::Roles { name: name.to_owned() })
            } else if is_more && count - counted + entry.counts() > most {
                Some(CheckpointError::Full { of: place.source.clone() })
            } else {
                None
            };
            if let Some(refused) = refused {
                entry.floors.keep_to(before);
                return Err(refused);
            }
            entry.check(name, place)?;
            Ok(entry.step(place))
        })
    }

    /// Changes an entry, and counts it; one in which nothing is left is let go of.
    fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        let entry = self.entries.entry(name.to_owned()).or_default();
        let before = entry.counts();
        let done = change(entry);
        let after = entry.counts();
        // Anyone can name repositories that nothing was ever verified of.
        if after == 0 && entry.floors.resets == 0 {
            self.entries.remove(name);
        }
        if after != before {
            let count = self.counts.entry(object::source(name).to_owned()).or_default();
            *count = *count + after - before;
        }
        done
    }

    /// The API server has answered a request with the object; tells whether that means that the one
    /// that was known was deleted.
    pub(super) fn answered(&mut self, name: &str, resets: u64, read: Read) -> bool {
        let lists = self.lists;
        self.change(name, |entry| {
            // It was deleted between the answer and now.
            if entry.floors.resets != resets {
                return false;
            }
            let deleted = entry.stored.as_ref().is_some_and(|stored| stored.read.uid != read.uid);
            if deleted {
                entry.reset();
            }
            let told = entry
                .stored
                .as_ref()
                .is_some_and(|stored| stored.told && stored.read.version == read.version);
            entry.see(Stored { read, told, lists });
            deleted
        })
    }

    /// The object of this uid is not there any more; tells whether it was known.
    pub(super) fn gone(&mut self, name: &str, uid: &str) -> bool {
        let stored = self.entries.get(name).and_then(|entry| entry.stored.as_ref());
        let is_known = stored.is_some_and(|stored| stored.read.uid == uid);
        if is_known {
            self.change(name, Entry::reset);
        }
        is_known
    }

    /// Takes what the watch tells; gives the names of those that were deleted.
    pub(super) fn take(&mut self, event: Event<(String, Read)>) -> Vec<String> {
        match event {
            Event::Init => {
                self.lists += 1;
                self.listing.clear();
                Vec::new()
            }
            Event::InitApply((name, read)) => {
                self.listing.insert(name, read);
                Vec::new()
            }
            Event::InitDone => self.take_list(),
            Event::Apply((name, read)) => {
                let deleted = self.told(&name, read, false);
                deleted.then_some(name).into_iter().collect()
            }
            Event::Delete((name, read)) => {
                let deleted = self.gone(&name, &read.uid);
                deleted.then_some(name).into_iter().collect()
            }
        }
    }

    fn take_list(&mut self) -> Vec<String> {
        self.listed = true;
        let (listing, lists) = (std::mem::take(&mut self.listing), self.lists);
        let missed = |(name, entry): &(&String, &Entry)| {
            let missed = |stored: &Stored| stored.lists < lists && !listing.contains_key(*name);
            entry.stored.as_ref().is_some_and(missed)
        };
        let missed = self.entries.iter().filter(missed);
        let mut deleted: Vec<String> = missed.map(|(name, _)| name.clone()).collect();
        deleted.iter().for_each(|name| self.change(name, Entry::reset));
        for (name, read) in listing {
            if self.told(&name, read, true) {
                deleted.push(name);
            }
        }
        deleted
    }

    /// The watch tells an object; gives whether that means that the one that was known was deleted.
    fn told(&mut self, name: &str, read: Read, in_list: bool) -> bool {
        let lists = self.lists;
        self.change(name, |entry| {
            let mut deleted = false;
            if let Some(stored) = &entry.stored {
                // The watch has not come to what the API server has answered already: what it
                // tells until then is older. Only a list that began after the answer is not.
                let behind = !stored.told
                    && stored.read.version != read.version
                    && !(in_list && stored.lists < lists);
                deleted = stored.read.uid != read.uid;
                if behind {
                    if !deleted && let Ok(spec) = &read.spec {
                        entry.floors.raise(object::memory(spec));
                    }
                    return false;
                }
            }
            if deleted {
                entry.reset();
            }
            entry.see(Stored { read, told: true, lists });
            deleted
        })
    }
}

impl Entry {
    /// How much it counts: 0 where nothing is known but that it was deleted.
    fn counts(&self) -> usize {
        if self.floors.memory == Memory::default() && self.stored.is_none() {
            return 0;
        }
        self.floors.memory.roles.len().div_ceil(COUNTED_ROLES).max(1)
    }

    fn see(&mut self, stored: Stored) {
        if let Ok(spec) = &stored.read.spec {
            self.floors.raise(object::memory(spec));
        }
        self.stored = Some(stored);
    }

    /// The one manual reset.
    fn reset(&mut self) {
        self.floors.forget();
        self.stored = None;
    }

    /// What is to be written so that the API server has the floors.
    fn step(&self, place: &Place) -> Step {
        let floors = &self.floors.memory;
        match (object::spec(place, floors), &self.stored) {
            (None, _) => Step::Done(floors.clone()),
            (Some(spec), None) => Step::Create(spec),
            (Some(spec), Some(stored)) if stored.read.spec.as_ref() == Ok(&spec) => {
                Step::Done(floors.clone())
            }
            (Some(spec), Some(stored)) => Step::Change { stored: stored.read.clone(), spec },
        }
    }

    /// Whether the object, if there is one, is this place's.
    fn check(&self, name: &str, place: &Place) -> Result<(), CheckpointError> {
        let reason = match self.stored.as_ref().map(|stored| &stored.read.spec) {
            None => return Ok(()),
            Some(Err(reason)) => reason.clone(),
            Some(Ok(spec)) => {
                let told = [&spec.source, &spec.repository, &spec.anchor];
                if told == [&place.source, &place.repository, &place.anchor] {
                    return Ok(());
                }
                format!("it is about {} of {}", spec.repository, spec.source)
            }
        };
        Err(CheckpointError::Malformed { name: name.to_owned(), reason })
    }
}

#[cfg(test)]
pub(super) mod tests;
