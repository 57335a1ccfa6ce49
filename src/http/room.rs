//! How much of what many share the bodies of some requests may take.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::FetchError;
use crate::fair::Place;

/// Bytes of bodies that are held for one purpose, until this is dropped. The first of them are its
/// own; the rest is taken from what many share, as it arrives.
#[derive(Debug)]
pub struct Room(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    own: usize,
    all: usize,
    /// What is beyond its own, as much in each.
    shared: Vec<Place<String>>,
}

/// The bytes of one body, given back unless they are kept.
#[derive(Debug)]
pub(super) struct Share<'r> {
    room: &'r Room,
    bytes: usize,
}

impl Room {
    /// With so many bytes of its own, and what may be had beyond them in each of these.
    pub(crate) fn new(own: usize, shared: impl Into<Vec<Place<String>>>) -> Self {
        Self(Mutex::new(Taken { own, all: 0, shared: shared.into() }))
    }

    /// Nothing of what was read is held any more.
    pub(crate) fn empty(&self) {
        self.give_back(usize::MAX);
    }

    /// Takes so many bytes more.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), FetchError> {
        let mut taken = self.taken();
        let all = taken.all.saturating_add(bytes);
        let shared = all.saturating_sub(taken.own);
        let mut places = taken.shared.iter_mut();
        if !places.all(|place| place.try_grow(shared.saturating_sub(place.count()))) {
            taken.settle();
            return Err(FetchError::NoRoom);
        }
        taken.all = all;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let mut taken = self.taken();
        taken.all = taken.all.saturating_sub(bytes);
        taken.settle();
    }

    /// For a body that is about to be read.
    pub(super) fn share(&self) -> Share<'_> {
        Share { room: self, bytes: 0 }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Between any two changes it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Gives back what is not needed.
    fn settle(&mut self) {
        let shared = self.all.saturating_sub(self.own);
        self.shared.iter_mut().for_each(|place| place.shrink_to(shared));
    }
}

impl Share<'_> {
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), FetchError> {
        self.room.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Stays taken for as long as the room is there.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair::Places;

    #[test]
    fn t2_what_is_not_kept_is_given_back_and_a_room_s_own_bytes_are_nobody_else_s() {
        let (at_host, shared) = (Places::all_for_one(1000), Places::new(200));
        let room = |host: &str| {
            Room::new(10, [at_host.none("repository".to_owned()), shared.none(host.to_owned())])
        };
        let (one, other) = (room("one"), room("other"));
        one.take(110).expect("half of all, and its own");
        assert_eq!(one.take(1), Err(FetchError::NoRoom));
        {
            let mut body = other.share();
            body.grow(60).expect("half of the rest, and its own");
            assert_eq!(body.grow(1), Err(FetchError::NoRoom));
        }
        let mut body = other.share();
        body.grow(60).expect("given back");
        body.keep();
        assert_eq!(room("one").take(11), Err(FetchError::NoRoom), "a holder's rooms are one");
        room("one").take(10).expect("its own");
        one.empty();
        one.take(85).expect("free again");
        drop((one, other));
        room("one").take(110).expect("all is free again");
    }

    #[test]
    fn t2_what_only_one_of_both_would_give_is_kept_of_none() {
        let (at_host, shared) = (Places::all_for_one(40), Places::new(100));
        let room = |repository: &str| {
            Room::new(0, [at_host.none(repository.to_owned()), shared.none("host".to_owned())])
        };
        let mut elsewhere = shared.none("elsewhere".to_owned());
        assert!(elsewhere.try_grow(40));
        let (one, two) = (room("one"), room("two"));
        assert_eq!(one.take(31), Err(FetchError::NoRoom), "it is too much for the host");
        two.take(30).expect("alone at the host");
        assert_eq!(one.take(6), Err(FetchError::NoRoom), "it is too much beside the other");
        drop(two);
        one.take(30).expect("free again");
    }
}
