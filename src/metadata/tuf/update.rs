//! One update of a TUF repository over its mirrors.

use bytes::Bytes;
use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use countersign_verify::tuf::{InitialRoot, Repository, Update};
use jiff::Timestamp;
use tokio::time::Instant;

use super::drive::{ROOT, TIMESTAMP, is_too_much, too_much};
use super::mirrors::share;
use super::{Drive, Mirror, Mirrors};
use crate::http::Room;
use crate::metadata::cause;
use crate::metadata::live::Want;

/// How an update begins.
#[derive(Clone, Copy)]
pub(in crate::metadata) struct Begin<'a> {
    /// The source's name.
    pub(in crate::metadata) source: &'a str,
    pub(in crate::metadata) initial: &'a InitialRoot,
    pub(in crate::metadata) max_delegations: usize,
    pub(in crate::metadata) at_hand: Option<&'a Repository>,
    /// The set at hand is current: only what it lacks is loaded.
    pub(in crate::metadata) within: bool,
    pub(in crate::metadata) wants: &'a [Want],
    /// So many of the first are of who waits; the others can be loaded later as well.
    pub(in crate::metadata) own: usize,
    pub(in crate::metadata) room: &'a Room,
    /// Is told what is verified by now.
    pub(in crate::metadata) verified: &'a (dyn Fn(&Memory) + Sync),
    pub(in crate::metadata) now: Timestamp,
}

impl Begin<'_> {
    fn update(&self, memory: Memory) -> Update {
        let mut update = match self.at_hand {
            Some(repository) if self.within => Update::within(repository, self.now),
            at_hand => {
                let update = Update::new(self.initial, memory, self.now);
                let update = update.with_max_delegations(self.max_delegations);
                match at_hand {
                    Some(repository) => update.after(repository),
                    None => update,
                }
            }
        };
        for want in self.wants {
            update.want(&want.lookup, &want.reference, None);
        }
        update
    }
}

/// What an update came to.
#[derive(Debug)]
pub(in crate::metadata) struct Updated {
    pub(in crate::metadata) repository: Repository,
    /// It is the set at hand with more roles loaded.
    pub(in crate::metadata) is_extension: bool,
}

/// The verified repository or why there is none, and what is to be remembered either way.
///
/// Where what the set at hand lacks is not what it lists, the repository may have moved on: then it
/// is updated as a whole. Where it becomes too large with everything that is loaded and wanted, it
/// begins again with what who waits needs, and the rest is loaded again when it is asked for.
pub(in crate::metadata) async fn run(
    mirrors: &Mirrors,
    mut begin: Begin<'_>,
    remembered: &Memory,
    deadline: Instant,
) -> (Memory, Result<Updated, Refusal>) {
    let known = begin.at_hand.map_or(0, flaws);
    let (mut memory, mut updated) = over_mirrors(mirrors, begin, remembered, deadline).await;
    let is_sound = |updated: &Result<Repository, Refusal>| {
        updated.as_ref().is_ok_and(|repository| flaws(repository) <= known)
    };
    let too_much = |updated: &Result<Repository, Refusal>| updated.as_ref().is_err_and(is_too_much);
    // Where there was no room for some, there is none for all.
    let no_room = |updated: &Result<Repository, Refusal>| {
        updated.as_ref().is_err_and(|refusal| *refusal == Unavailable::Overloaded.into())
    };
    if begin.within && !is_sound(&updated) && !too_much(&updated) && !no_room(&updated) {
        drop(updated);
        begin.within = false;
        (memory, updated) = over_mirrors(mirrors, begin, &memory, deadline).await;
    }
    if too_much(&updated) {
        let wants = begin.wants.get(..begin.own).unwrap_or(begin.wants);
        begin = Begin { at_hand: None, within: false, wants, ..begin };
        (memory, updated) = over_mirrors(mirrors, begin, &memory, deadline).await;
    }
    let is_extension = begin.within;
    (memory, updated.map(|repository| Updated { repository, is_extension }))
}

/// One mirror after the other is asked, each for its share of the time, until one has everything
/// that is wanted, and all of it good. Whatever one of them proved holds against the next.
async fn over_mirrors(
    mirrors: &Mirrors,
    begin: Begin<'_>,
    remembered: &Memory,
    deadline: Instant,
) -> (Memory, Result<Repository, Refusal>) {
    let mut memory = remembered.clone();
    // What is bad in the set at hand need not be good anywhere.
    let known = begin.at_hand.filter(|_| begin.within).map_or(0, flaws);
    let mut flawed: Option<(usize, Repository)> = None;
    let mut refused: Option<Refusal> = None;
    for (tried, (number, mirror)) in mirrors.in_turn().enumerate() {
        let until = share(deadline, mirrors.count() - tried);
        if flawed.is_none() {
            begin.room.empty();
        }
        let (seen, updated) = attempt(mirror, begin, memory.clone(), until).await;
        memory = seen;
        match updated {
            Ok(repository) => {
                let flaws = flaws(&repository);
                if flaws <= known {
                    mirrors.has_served(number);
                    return (memory, Ok(repository));
                }
                if flawed.as_ref().is_none_or(|(fewest, _)| flaws < *fewest) {
                    flawed = Some((flaws, repository));
                }
            }
            Err(refusal) => {
                let (source, code) = (begin.source, refusal.code());
                let (mirror, cause) = (number + 1, cause(&refusal));
                tracing::debug!(source, mirror, code, cause, "a mirror did not serve");
                // What is bad says more than what could not be had.
                if !matches!(refused, Some(Refusal::Denied(_))) {
                    refused = Some(refusal);
                }
                // Another mirror's files need as much room.
                if code == Unavailable::Overloaded.code() {
                    break;
                }
            }
        }
    }
    let none = || Denial::MalformedMetadata {
        file: "root".to_owned(),
        reason: "there is no mirror".to_owned(),
    };
    let refused = || refused.unwrap_or_else(|| none().into());
    (memory, flawed.map(|(_, repository)| repository).ok_or_else(refused))
}

async fn attempt(
    mirror: &Mirror,
    begin: Begin<'_>,
    memory: Memory,
    deadline: Instant,
) -> (Memory, Result<Repository, Refusal>) {
    let mut update = begin.update(memory.clone());
    let drive = Drive { mirror, name: begin.source, room: Some(begin.room), deadline, ahead: true };
    let mut taken = |role: &str, _: &Bytes, memory: &Memory| {
        // What is newer below them is theirs.
        if [ROOT, TIMESTAMP].contains(&role) {
            (begin.verified)(memory);
        }
    };
    let driven = drive.run(&mut update, &mut taken).await;
    let memory = memory.merged(update.memory().clone());
    (begin.verified)(&memory);
    let repository = driven.and_then(|()| update.finish()).and_then(|repository| {
        if repository.bytes() > limits::TUF_REPOSITORY_BYTES {
            return Err(too_much().into());
        }
        Ok(repository)
    });
    (memory, repository)
}

/// How many roles are bad, or could not be had.
fn flaws(repository: &Repository) -> usize {
    repository.roles().filter(|role| role.state.is_err()).count()
}
