//! What a replica knows of checkpoints: what the API server has, and the floors that hold.

use std::collections::{BTreeMap, HashMap};

use countersign_verify::notary::Memory;
use kube::runtime::watcher::Event;

use super::CheckpointError;
use super::object::{self, Read};
use crate::api::TrustCheckpointSpec;
use crate::api::bounds::CHECKPOINT_ROLES;
use crate::metadata::{Place, Remembered};

/// All checkpoints by name.
#[derive(Debug, Default)]
pub(super) struct Known {
    entries: HashMap<String, Entry>,
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
    floors: Memory,
    /// How often it was seen deleted.
    resets: u64,
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
        Ok(Remembered { memory: entry.floors.clone(), resets: entry.resets })
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
        // Anyone can name repositories that nothing was ever verified of.
        if *memory == Memory::default() && !self.entries.contains_key(name) {
            return Ok(Step::Done(Memory::default()));
        }
        let entry = self.entries.entry(name.to_owned()).or_default();
        if entry.resets != loaded.resets {
            return Err(CheckpointError::Deleted { name: name.to_owned() });
        }
        entry.rebase(&loaded.memory, memory);
        entry.check(name, place)?;
        if entry.floors.roles.len() > CHECKPOINT_ROLES {
            return Err(CheckpointError::Roles { name: name.to_owned() });
        }
        let Some(spec) = object::spec(place, &entry.floors) else {
            return Ok(Step::Done(entry.floors.clone()));
        };
        Ok(match &entry.stored {
            None => Step::Create(spec),
            Some(stored) if stored.read.spec.as_ref() == Ok(&spec) => {
                Step::Done(entry.floors.clone())
            }
            Some(stored) => Step::Change { stored: stored.read.clone(), spec },
        })
    }

    /// The API server has answered a request with the object; tells whether that means that the one
    /// that was known was deleted.
    pub(super) fn answered(&mut self, name: &str, resets: u64, read: Read) -> bool {
        let lists = self.lists;
        let entry = self.entries.entry(name.to_owned()).or_default();
        // It was deleted between the answer and now.
        if entry.resets != resets {
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
    }

    /// The object of this uid is not there any more; tells whether it was known.
    pub(super) fn gone(&mut self, name: &str, uid: &str) -> bool {
        let entry = self.entries.get_mut(name);
        let Some(entry) =
            entry.filter(|entry| entry.stored.as_ref().is_some_and(|it| it.read.uid == uid))
        else {
            return false;
        };
        entry.reset();
        true
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
        let mut deleted = Vec::new();
        for (name, entry) in &mut self.entries {
            let missed = |stored: &Stored| stored.lists < lists && !listing.contains_key(name);
            if entry.stored.as_ref().is_some_and(missed) {
                entry.reset();
                deleted.push(name.clone());
            }
        }
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
        let entry = self.entries.entry(name.to_owned()).or_default();
        let mut deleted = false;
        if let Some(stored) = &entry.stored {
            // The watch has not come to what the API server has answered already: what it tells
            // until then is older. Only a list that began after the answer is not.
            let behind = !stored.told
                && stored.read.version != read.version
                && !(in_list && stored.lists < lists);
            deleted = stored.read.uid != read.uid;
            if behind {
                if !deleted && let Ok(spec) = &read.spec {
                    entry.raise(object::memory(spec));
                }
                return false;
            }
        }
        if deleted {
            entry.reset();
        }
        entry.see(Stored { read, told: true, lists });
        deleted
    }
}

impl Entry {
    fn raise(&mut self, memory: Memory) {
        self.floors = std::mem::take(&mut self.floors).merged(memory);
    }

    /// Raises the floors to `memory`, which was verified on top of `base`: these, and what the API
    /// server has, which may have been written without knowing of each other.
    fn rebase(&mut self, base: &Memory, memory: &Memory) {
        let stored = self.stored.as_ref().and_then(|stored| stored.read.spec.as_ref().ok());
        let stored = stored.map(|spec| object::memory(spec).raised(base, memory.clone()));
        self.floors = std::mem::take(&mut self.floors).raised(base, memory.clone());
        stored.into_iter().for_each(|memory| self.raise(memory));
    }

    fn see(&mut self, stored: Stored) {
        if let Ok(spec) = &stored.read.spec {
            self.raise(object::memory(spec));
        }
        self.stored = Some(stored);
    }

    /// The one manual reset.
    fn reset(&mut self) {
        *self = Self { resets: self.resets + 1, ..Self::default() };
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
