//! How many events may be written.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Writes about one owner. Source: k8s.io/client-go, tools/record/events_cache.go
/// (`defaultSpamBurst`, `defaultSpamQPS`). A ReplicaSet whose pods are refused comes to try every
/// 1000 s, which is always within it.
const OWNER: Limit = Limit { burst: 25, every: Duration::from_secs(300) };

/// Writes in one namespace: who may create pods can name owners that there are not, and must not
/// keep others' events from being written. An event is below 4 KiB and kept for an hour, so a
/// namespace holds less than 2 MiB of them.
const NAMESPACE: Limit = Limit { burst: 50, every: Duration::from_secs(10) };

/// All writes of a replica: nothing to the API server, and less than 16 MiB of events in etcd.
const ALL: Limit = Limit { burst: 100, every: Duration::from_secs(1) };

/// Most owners, and most namespaces, whose writes are remembered.
const REMEMBERED: usize = 1024;

/// A token bucket's size, and how long a token takes to come back.
#[derive(Debug, Clone, Copy)]
struct Limit {
    burst: u32,
    every: Duration,
}

/// A token bucket, as the time at which it is full again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full: Instant,
}

impl Bucket {
    fn has_one(self, limit: Limit, now: Instant) -> bool {
        self.full <= now + limit.every * limit.burst.saturating_sub(1)
    }

    fn take(&mut self, limit: Limit, now: Instant) {
        self.full = self.full.max(now) + limit.every;
    }
}

/// What may be written still.
pub(super) struct Budget {
    all: Bucket,
    namespaces: Recent<String, Option<Bucket>>,
    owners: Recent<(String, String), Option<Bucket>>,
}

impl Budget {
    /// Nothing was written yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: Bucket { full: now },
            namespaces: Recent::new(REMEMBERED),
            owners: Recent::new(REMEMBERED),
        }
    }

    /// Whether one more event about this owner may be written, which then counts as written.
    pub(super) fn take(&mut self, namespace: &str, owner: &str, now: Instant) -> bool {
        let unused = Bucket { full: now };
        let owner = self.owners.get((namespace.to_owned(), owner.to_owned()), now);
        let owner = owner.get_or_insert(unused);
        let namespace = self.namespaces.get(namespace.to_owned(), now).get_or_insert(unused);
        let buckets = [(owner, OWNER), (namespace, NAMESPACE), (&mut self.all, ALL)];
        if !buckets.iter().all(|(bucket, limit)| bucket.has_one(*limit, now)) {
            return false;
        }
        for (bucket, limit) in buckets {
            bucket.take(limit, now);
        }
        true
    }
}

/// As many values as fit; the one that was not asked for the longest makes room.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    held: HashMap<K, (Instant, V)>,
}

impl<K: Clone + Eq + Hash, V: Default> Recent<K, V> {
    /// Holds nothing, and never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: HashMap::new() }
    }

    /// The value of this key, a new one where there is none.
    pub(super) fn get(&mut self, key: K, now: Instant) -> &mut V {
        if self.held.len() >= self.most && !self.held.contains_key(&key) {
            let oldest = self.held.iter().min_by_key(|(_, (asked, _))| *asked);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.held.remove(&oldest);
            }
        }
        let (asked, value) = self.held.entry(key).or_insert_with(|| (now, V::default()));
        *asked = now;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_its_burst_and_then_one_write_in_five_minutes() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let taken = (0..100).filter(|_| budget.take("a", "o", now)).count();
        assert_eq!(taken, 25);
        assert!(budget.take("a", "other", now), "another owner has its own");
        assert!(budget.take("b", "o", now), "as one of that uid in another namespace has");
        let later = now + OWNER.every - Duration::from_millis(1);
        assert!(!budget.take("a", "o", later));
        let later = now + OWNER.every;
        assert!(budget.take("a", "o", later) && !budget.take("a", "o", later));
    }

    #[test]
    fn owners_that_are_made_up_leave_room_for_other_namespaces() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let taken = (0..10_000).filter(|n| budget.take("a", &n.to_string(), now)).count();
        assert_eq!(taken, 50);
        assert!(budget.take("b", "o", now));
        let later = now + NAMESPACE.every;
        assert!(budget.take("a", "new", later) && !budget.take("a", "newer", later));
    }

    #[test]
    fn all_together_have_a_limit() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let taken = (0..10_000).filter(|n| budget.take(&n.to_string(), "o", now)).count();
        assert_eq!(taken, 100);
        assert!(budget.take("later", "o", now + ALL.every));
        assert!(budget.owners.held.len() <= REMEMBERED);
        assert!(budget.namespaces.held.len() <= REMEMBERED);
    }

    #[test]
    fn what_was_not_asked_for_the_longest_makes_room() {
        let start = Instant::now();
        let mut recent: Recent<&str, u32> = Recent::new(2);
        for (n, key) in ["a", "b", "a", "c"].into_iter().enumerate() {
            *recent.get(key, start + Duration::from_secs(n as u64)) += 1;
        }
        assert_eq!(recent.held.len(), 2);
        assert_eq!(*recent.get("a", start + Duration::from_secs(9)), 2);
        assert_eq!(*recent.get("b", start + Duration::from_secs(9)), 0);
    }
}
