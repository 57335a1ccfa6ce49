//! What the next update of a TUF repository loads: whoever asks while one runs is in the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::live::{Key, Want};

/// Images whose roles one update loads at most, beside those of who began it.
pub(super) const AT_ONCE: usize = 64;

/// Images that wait for the next updates of one repository at most. Who finds no place asks again
/// after the update that is under way, or begins the next one.
const WAITING: usize = 1024;

/// Most updates that one who asks may have to wait for: the one under way, and those of all who
/// came before.
pub(super) const TURNS: usize = WAITING / AT_ONCE + 2;

/// By namespace, so that each has its share of every update.
type Waiting = BTreeMap<String, Vec<Want>>;

#[derive(Debug, Default)]
pub(super) struct Wants(Mutex<HashMap<Key, Waiting>>);

impl Wants {
    /// Notes what the next updates are to load, as far as there are places.
    pub(super) fn add(&self, key: &Key, namespace: &str, wants: &[Want]) {
        if wants.is_empty() {
            return;
        }
        let mut all = self.lock();
        let waiting = all.entry(key.clone()).or_default();
        let mut free = WAITING.saturating_sub(count(waiting));
        if free == 0 {
            return;
        }
        let own = waiting.entry(namespace.to_owned()).or_default();
        for want in wants {
            if free > 0 && own.len() < AT_ONCE && !own.contains(want) {
                own.push(want.clone());
                free -= 1;
            }
        }
    }

    /// Forgets what is waited for of all sources but these.
    pub(super) fn retain(&self, is_there: impl Fn(&Key) -> bool) {
        self.lock().retain(|key, _| is_there(key));
    }

    /// What the update that begins now loads: of every namespace in turn, those that have waited
    /// longest. What is loaded already waits no more.
    pub(super) fn take(&self, key: &Key, is_met: impl Fn(&Want) -> bool) -> Vec<Want> {
        // Looking names up takes its time, and all sources share the lock.
        let mut waiting = self.lock().remove(key).unwrap_or_default();
        waiting.values_mut().for_each(|wants| wants.retain(|want| !is_met(want)));
        let mut taken: Vec<Want> = Vec::new();
        while taken.len() < AT_ONCE && count(&waiting) > 0 {
            for wants in waiting.values_mut().filter(|wants| !wants.is_empty()) {
                let want = wants.remove(0);
                if taken.len() < AT_ONCE && !taken.contains(&want) {
                    taken.push(want);
                }
            }
        }
        for (namespace, wants) in waiting {
            self.add(key, &namespace, &wants);
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Waiting>> {
        // Between any two changes it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(waiting: &Waiting) -> usize {
    waiting.values().map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use countersign_verify::image::Reference;
    use countersign_verify::tuf::{Accept, Lookup, Template};

    use super::*;

    const KEY: Key = ([0; 32], String::new());

    fn want(name: &str) -> Want {
        let lookup = Lookup {
            target: Template::for_tags("{registry}/{repository}/{tag}").expect("a template"),
            digest_target: None,
            accept: Accept::Any(vec!["*".to_owned()]),
        };
        let reference = Reference::parse(&format!("registry.example.com/{name}:1"));
        Want { lookup: Arc::new(lookup), reference: reference.expect("a reference") }
    }

    #[test]
    fn k10_a_namespace_that_waits_for_much_leaves_the_others_their_share() {
        let wants = Wants::default();
        let greedy: Vec<Want> = (0..600).map(|number| want(&format!("greedy-{number}"))).collect();
        wants.add(&KEY, "greedy", &greedy);
        wants.add(&KEY, "quiet", &[want("quiet")]);
        let taken = wants.take(&KEY, |_| false);
        assert_eq!(taken.len(), AT_ONCE);
        assert!(taken.contains(&want("quiet")));
        assert_eq!(taken[0], greedy[0], "who waited longest comes first");
    }

    #[test]
    fn places_are_bounded_and_what_is_there_waits_no_more() {
        let wants = Wants::default();
        for namespace in 0..100 {
            let of = |number: usize| want(&format!("n-{namespace}-{number}"));
            wants.add(&KEY, &format!("{namespace}"), &(0..64).map(of).collect::<Vec<_>>());
        }
        let mut turns = 0;
        let mut taken = 0;
        loop {
            let some = wants.take(&KEY, |_| false);
            if some.is_empty() {
                break;
            }
            taken += some.len();
            turns += 1;
        }
        // What one update has no room for gives up its place and asks again.
        assert!(taken <= WAITING && turns < TURNS, "{taken} in {turns}");
        wants.add(&KEY, "quiet", &[want("quiet")]);
        assert!(wants.take(&KEY, |_| true).is_empty());
        assert!(wants.lock().is_empty());
    }
}
