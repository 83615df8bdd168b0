//! What was seen lately. Pure: the caller brings the time.
//!
//! Not the guard against doubled messages – that is the journal's unique index, which survives us. This only saves
//! the work of converting, downloading and offering again what this process has had acknowledged already.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A bounded set whose entries also age out.
#[derive(Debug)]
pub struct Recent<K> {
    seen: HashMap<K, u64>,
    order: VecDeque<(K, u64)>,
    entries_max: usize,
    age_ms_max: u64,
}

impl<K: Hash + Eq + Clone> Recent<K> {
    pub fn new(entries_max: usize, age_ms_max: u64) -> Self {
        Self { seen: HashMap::new(), order: VecDeque::new(), entries_max, age_ms_max }
    }

    /// Whether the key was noted and is not too old.
    pub fn contains(&self, key: &K, now_ms: u64) -> bool {
        self.seen.get(key).is_some_and(|at| now_ms.saturating_sub(*at) <= self.age_ms_max)
    }

    /// Notes a key; the oldest go when there are too many.
    pub fn note(&mut self, key: K, now_ms: u64) {
        self.seen.insert(key.clone(), now_ms);
        self.order.push_back((key, now_ms));
        while let Some((oldest, at)) = self.order.front() {
            let stale = now_ms.saturating_sub(*at) > self.age_ms_max;
            if !stale && self.order.len() <= self.entries_max {
                break;
            }
            // A key that was noted again stays: its newer entry stands further back.
            if self.seen.get(oldest) == Some(at) {
                self.seen.remove(oldest);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;
    use proptest::prelude::*;

    #[test]
    fn forgets_by_age_and_by_number() {
        let mut recent = Recent::new(2, 100);
        recent.note("a", 0);
        recent.note("b", 10);
        assert!(recent.contains(&"a", 100) && !recent.contains(&"a", 101));
        recent.note("c", 20);
        assert!(!recent.contains(&"a", 20), "the oldest of three goes");
        assert!(recent.contains(&"b", 20) && recent.contains(&"c", 20));
    }

    proptest! {
        #[test]
        fn is_bounded_and_knows_the_newest(keys in proptest::collection::vec(0u8..20, 1..200)) {
            let mut recent = Recent::new(5, 1_000);
            for (at, key) in keys.iter().enumerate() {
                recent.note(*key, at as u64);
                prop_assert!(recent.contains(key, at as u64));
                prop_assert!(recent.order.len() <= 5 && recent.seen.len() <= 5);
            }
        }
    }
}
