//! Values by name, in no more memory than they need: one file may list hundreds of thousands.

use std::collections::BTreeMap;
use std::ops::Deref;

/// What an allocation takes beside what it is for, about, in bytes: the allocator's own part, and
/// what it is rounded up to.
pub(crate) const ALLOCATION: usize = 16;

/// Pairs of a name and a value, each name once, in the order of the names' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sorted<K, V>(Box<[(K, V)]>);

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<K: Deref<Target = str>, V> Sorted<K, V> {
    /// Of pairs in any order.
    ///
    /// # Errors
    /// The name, where one is there twice.
    pub(crate) fn new(mut pairs: Vec<(K, V)>) -> Result<Self, String> {
        pairs.sort_unstable_by(|(a, _), (b, _)| str::cmp(a, b));
        let twice = pairs.windows(2).find(|pair| *pair[0].0 == *pair[1].0);
        match twice {
            Some(pair) => Err(pair[0].0.to_string()),
            None => Ok(Self(pairs.into_boxed_slice())),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        self.0.get(self.place(name)?).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        let place = self.place(name)?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|(other, _)| str::cmp(other, name)).ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &V)> + DoubleEndedIterator {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Those only that are to be kept.
    pub(crate) fn filter(&self, mut keep: impl FnMut(&str, &V) -> bool) -> Self
    where
        K: Clone,
        V: Clone,
    {
        Self(self.0.iter().filter(|(name, value)| keep(name, value)).cloned().collect())
    }

    /// The memory that it takes, in bytes, without what its values point to.
    pub(crate) fn footprint(&self) -> usize {
        let names = self.0.iter().map(|(name, _)| ALLOCATION + name.len());
        ALLOCATION + size_of_val(&*self.0) + names.sum::<usize>()
    }

    /// Those whose names begin so.
    pub(crate) fn beginning_with<'s>(
        &'s self,
        prefix: &str,
    ) -> impl Iterator<Item = (&'s str, &'s V)> {
        let start = self.0.partition_point(|(name, _)| **name < *prefix);
        let after = self.0.iter().skip(start).map(|(name, value)| (&**name, value));
        after.take_while(move |(name, _)| name.starts_with(prefix))
    }
}

impl<V> From<BTreeMap<String, V>> for Sorted<Box<str>, V> {
    fn from(map: BTreeMap<String, V>) -> Self {
        Self(map.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}
