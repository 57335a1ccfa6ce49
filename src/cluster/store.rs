//! What the API server has of one kind, from its watch's events.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

/// Objects of a kind by name.
#[derive(Debug)]
pub(super) struct Store<T> {
    held: BTreeMap<String, T>,
    /// What a list that is not complete yet has told; what is held stays until it is.
    listing: BTreeMap<String, T>,
    listed: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), listing: BTreeMap::new(), listed: false }
    }
}

impl<T: PartialEq> Store<T> {
    /// Whether a full list was there.
    pub(super) fn listed(&self) -> bool {
        self.listed
    }

    /// The objects by name.
    pub(super) fn held(&self) -> &BTreeMap<String, T> {
        &self.held
    }

    /// Takes an event, and tells whether what is held is another now, or there for the first time.
    pub(super) fn take(&mut self, event: Event<(String, T)>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply((name, object)) => {
                self.listing.insert(name, object);
                false
            }
            Event::InitDone => {
                let first = !std::mem::replace(&mut self.listed, true);
                let listing = std::mem::take(&mut self.listing);
                first | (std::mem::replace(&mut self.held, listing) != self.held)
            }
            Event::Apply((name, object)) => {
                let same = self.held.get(&name) == Some(&object);
                self.held.insert(name, object);
                !same
            }
            Event::Delete((name, _)) => self.held.remove(&name).is_some(),
        }
    }
}

/// The same event of what `read` makes of its object.
pub(super) fn map<K, T>(event: Event<K>, read: impl FnOnce(K) -> T) -> Event<T> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(read(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(read(object)),
        Event::Delete(object) => Event::Delete(read(object)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(store: &Store<u8>) -> Vec<&str> {
        store.held().keys().map(String::as_str).collect()
    }

    fn object(name: &str, content: u8) -> (String, u8) {
        (name.to_owned(), content)
    }

    #[test]
    fn what_is_held_stays_until_a_new_list_is_complete() {
        let mut store = Store::default();
        assert!(!store.take(Event::Init));
        assert!(!store.take(Event::InitApply(object("a", 1))));
        assert!(!store.listed() && store.held().is_empty());
        assert!(store.take(Event::InitDone));
        assert!(store.listed());
        assert_eq!(names(&store), ["a"]);
        // A list that broke off, and the one after it, without "a".
        store.take(Event::Init);
        store.take(Event::InitApply(object("half", 1)));
        store.take(Event::Init);
        store.take(Event::InitApply(object("b", 1)));
        assert_eq!(names(&store), ["a"]);
        assert!(store.take(Event::InitDone));
        assert_eq!(names(&store), ["b"]);
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let mut store = Store::default();
        assert!(store.take(Event::InitDone), "an empty list is news the first time");
        assert!(store.take(Event::Apply(object("a", 1))));
        assert!(!store.take(Event::Apply(object("a", 1))));
        assert!(store.take(Event::Apply(object("a", 2))));
        store.take(Event::Init);
        store.take(Event::InitApply(object("a", 2)));
        assert!(!store.take(Event::InitDone), "the same list again is no news");
        assert!(store.take(Event::Delete(object("a", 2))));
        assert!(!store.take(Event::Delete(object("a", 2))));
    }
}
