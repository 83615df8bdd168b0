//! Which piece of a network's input kills its worker. Pure: time is a parameter.
//!
//! A worker says what it is about to read, and when it is through. Dies it by its own doing in between, each of these pieces
//! is a suspect; the next start reads them one at a time, so that the next death names one; the third has it skipped.

use proto::wire::channel::{SCOPE_SKIP, SCOPE_SUSPECTS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Deaths over the same piece, as for runs.
const DEATHS_MAX: u32 = 3;
/// Pieces that are remembered; a poll brings at most a hundred.
const SUSPECTS_MAX: usize = 256;
/// A piece that did not come again for so long was taken by the network's own rules (1 h).
const FORGET_MS: u64 = 3_600_000;

#[derive(Debug, Default)]
pub struct Suspects {
    examining: Vec<String>,
    /// Deaths over a piece, and when the last one was.
    deaths: BTreeMap<String, (u32, u64)>,
}

/// The same on its way to the next program image. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedSuspects {
    pub examining: Vec<String>,
    /// Piece, deaths over it, milliseconds since the last one.
    pub deaths: Vec<(String, u32, u64)>,
}

impl Suspects {
    /// For the next image, whose clock may be another one.
    pub fn carry(&self, now_ms: u64) -> CarriedSuspects {
        let death =
            |(id, (deaths, at)): (&String, &(u32, u64))| (id.clone(), *deaths, now_ms.saturating_sub(*at));
        CarriedSuspects { examining: self.examining.clone(), deaths: self.deaths.iter().map(death).collect() }
    }

    /// Goes on with what the image before knew.
    pub fn restore(carried: CarriedSuspects, now_ms: u64) -> Self {
        let CarriedSuspects { examining, deaths } = carried;
        let death = |(id, deaths, ago_ms): (String, u32, u64)| (id, (deaths, now_ms.saturating_sub(ago_ms)));
        Self { examining, deaths: deaths.into_iter().take(SUSPECTS_MAX).map(death).collect() }
    }

    /// The worker reads these now; what it read before is through.
    pub fn examining(&mut self, ids: Vec<String>) {
        for id in &self.examining {
            if !ids.contains(id) {
                self.deaths.remove(id);
            }
        }
        self.examining = ids;
    }

    /// It is dead. `true` when a piece is to be skipped from now on because of this death.
    pub fn died(&mut self, own_fault: bool, now_ms: u64) -> bool {
        self.deaths.retain(|_, (_, at)| now_ms.saturating_sub(*at) < FORGET_MS);
        let examined = std::mem::take(&mut self.examining);
        let mut found = false;
        for id in examined.into_iter().filter(|_| own_fault) {
            if self.deaths.len() >= SUSPECTS_MAX && !self.deaths.contains_key(&id) {
                break;
            }
            let (deaths, at) = self.deaths.entry(id).or_insert((0, now_ms));
            (*deaths, *at) = (*deaths + 1, now_ms);
            found |= *deaths == DEATHS_MAX;
        }
        found
    }

    /// What the next start is told, by scope.
    pub fn scopes(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let ids = |skip: bool| -> Vec<&str> {
            let chosen = self.deaths.iter().filter(|(_, (deaths, _))| (*deaths >= DEATHS_MAX) == skip);
            chosen.map(|(id, _)| id.as_str()).collect()
        };
        let scopes = [(SCOPE_SUSPECTS, ids(false)), (SCOPE_SKIP, ids(true))];
        scopes
            .into_iter()
            .filter(|(_, ids)| !ids.is_empty())
            .map(|(scope, ids)| (scope.to_owned(), ids.join(",")))
    }

    /// What is being read now, for reports.
    pub fn now(&self) -> &[String] {
        &self.examining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn told(suspects: &Suspects) -> Vec<(String, String)> {
        suspects.scopes().collect()
    }

    fn pair(scope: &str, ids: &str) -> (String, String) {
        (scope.to_owned(), ids.to_owned())
    }

    #[test]
    fn three_deaths_find_the_one_among_many() {
        let mut suspects = Suspects::default();
        suspects.examining(ids("1 2 3"));
        assert!(!suspects.died(true, 0));
        assert_eq!(told(&suspects), [pair(SCOPE_SUSPECTS, "1,2,3")]);
        for round in 1..=2 {
            suspects.examining(ids("1"));
            suspects.examining(ids(""));
            suspects.examining(ids("2"));
            assert_eq!(suspects.died(true, round), round == 2);
        }
        assert_eq!(told(&suspects), [pair(SCOPE_SUSPECTS, "3"), pair(SCOPE_SKIP, "2")]);
        suspects.examining(ids("2"));
        suspects.examining(ids(""));
        assert_eq!(told(&suspects), [pair(SCOPE_SUSPECTS, "3")], "it was kept unread: done with");
        suspects.died(false, FORGET_MS + 5);
        assert!(told(&suspects).is_empty(), "long ago");
    }

    #[test]
    fn what_is_read_and_who_died_over_it_go_on_in_the_next_image() {
        let mut before = Suspects::default();
        for now_ms in [5, 6] {
            before.examining(ids("1 2"));
            before.died(true, now_ms);
        }
        before.examining(ids("2"));
        let mut after = Suspects::restore(before.carry(10), 1_000_000);
        assert_eq!(after.carry(1_000_000), before.carry(10));
        assert!(after.died(true, 1_000_001), "the third over the same piece");
        assert_eq!(told(&after), [pair(SCOPE_SUSPECTS, "1"), pair(SCOPE_SKIP, "2")]);
    }

    #[test]
    fn a_killer_from_outside_blames_nothing() {
        let mut suspects = Suspects::default();
        for round in 0..9 {
            suspects.examining(ids("1"));
            assert!(!suspects.died(false, round));
        }
        assert!(told(&suspects).is_empty() && suspects.now().is_empty());
    }
}
