use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[test]
fn a_session_runs_one_at_a_time_in_order() {
    let mut lanes = Lanes::new(Limits::default());
    let one = lanes.join("s", "main", 0).unwrap();
    let two = lanes.join("s", "main", 0).unwrap();
    let other = lanes.join("t", "main", 0).unwrap();
    assert_eq!(lanes.grant(), [one, other]);
    assert_eq!(lanes.grant(), []);
    assert!(lanes.leave(one));
    assert_eq!(lanes.grant(), [two]);
    assert!(!lanes.leave(one), "a ticket is good once");
    assert!(lanes.is_active(two) && lanes.is_active(other));
}

#[test]
fn lanes_have_their_own_limits() {
    let mut lanes = Lanes::new(Limits { main: 2, ..Limits::default() });
    for lane in ["main", "cron", "nested", "subagent", "odd"] {
        for n in 0..3 {
            lanes.join(&format!("{lane} {n}"), lane, 0).unwrap();
        }
    }
    assert_eq!(lanes.grant().len(), 2 + 1 + 1 + 3 + 1);
    assert_eq!(lanes.waiting(), 7);
    lanes.set_limits(Limits { main: 3, ..Limits::default() });
    assert_eq!(lanes.grant().len(), 1, "one more in main");
    lanes.set_limits(Limits { main: 1, ..Limits::default() });
    assert_eq!(lanes.grant().len(), 0);
    assert_eq!(lanes.active(), 9, "nobody is thrown out");
}

#[test]
fn a_waiting_session_does_not_hold_a_lane() {
    let mut lanes = Lanes::new(Limits { main: 1, ..Limits::default() });
    let first = lanes.join("s", "main", 0).unwrap();
    let behind = lanes.join("s", "main", 0).unwrap();
    let other = lanes.join("t", "main", 0).unwrap();
    assert_eq!(lanes.grant(), [first]);
    lanes.leave(first);
    assert_eq!(lanes.grant(), [other], "it stood in the lane's line before");
    lanes.leave(other);
    assert_eq!(lanes.grant(), [behind]);
}

#[test]
fn clearing_and_draining() {
    let mut lanes = Lanes::new(Limits { host: Some(1), ..Limits::default() });
    let one = lanes.join("s", "main", 0).unwrap();
    let waiting = [lanes.join("s", "main", 10).unwrap(), lanes.join("s", "main", 10).unwrap()];
    let other = lanes.join("t", "cron", 0).unwrap();
    // The host's one place goes to whoever stands first by the lane's name; fairness between lanes is not promised.
    assert_eq!(lanes.grant(), [other]);
    lanes.leave(other);
    assert_eq!(lanes.grant(), [one]);
    let long = lanes.long_waits(2010);
    assert_eq!(
        long.iter().map(|w| (w.ticket, w.ahead, w.waited_ms)).collect::<Vec<_>>(),
        [(waiting[0], 1, 2000), (waiting[1], 2, 2000)]
    );
    assert_eq!(lanes.clear_session("s"), waiting);
    assert!(lanes.is_active(one));
    lanes.set_draining(true);
    assert_eq!(lanes.join("s", "main", 0), Err(Draining));
    lanes.leave(one);
    assert_eq!((lanes.active(), lanes.waiting()), (0, 0));
    assert_eq!(lanes.clear_session("nobody"), []);
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Join(u8, u8),
    Leave(u8),
    Clear(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4_u8, 0..4_u8).prop_map(|(session, lane)| Op::Join(session, lane)),
        4 => any::<u8>().prop_map(Op::Leave),
        1 => (0..4_u8).prop_map(Op::Clear),
    ]
}

proptest! {
    /// Never two of a session, never more than a lane has, first come first served per session, and nobody is forgotten.
    #[test]
    fn accounts_balance(ops in prop::collection::vec(op(), 0..120), host in prop::option::of(1..5_usize)) {
        let names = ["main", "cron", "subagent", "nested"];
        let limits = Limits { main: 2, cron: 1, subagent: 2, host };
        let mut lanes = Lanes::new(limits);
        let mut here: BTreeMap<Ticket, (u8, u8)> = BTreeMap::new();
        let mut active: BTreeSet<Ticket> = BTreeSet::new();
        for op in ops {
            match op {
                Op::Join(session, lane) => {
                    let ticket = lanes.join(&session.to_string(), names[lane as usize], 0).unwrap();
                    here.insert(ticket, (session, lane));
                }
                Op::Leave(n) => {
                    let Some(ticket) = here.keys().nth(n as usize % here.len().max(1)).copied() else { continue };
                    prop_assert!(lanes.leave(ticket));
                    here.remove(&ticket);
                    active.remove(&ticket);
                }
                Op::Clear(session) => {
                    for ticket in lanes.clear_session(&session.to_string()) {
                        prop_assert!(!active.contains(&ticket));
                        here.remove(&ticket);
                    }
                }
            }
            for ticket in lanes.grant() {
                let session = here[&ticket].0;
                prop_assert!(here.iter().all(|(t, at)| at.0 != session || *t >= ticket), "overtaken");
                prop_assert!(active.insert(ticket));
            }
            let sessions: BTreeSet<u8> = active.iter().map(|t| here[t].0).collect();
            prop_assert_eq!(sessions.len(), active.len(), "two runs in a session");
            for (n, name) in (0_u8..).zip(names) {
                prop_assert!(active.iter().filter(|t| here[t].1 == n).count() <= limits.of(name));
            }
            prop_assert!(active.len() <= host.unwrap_or(usize::MAX));
            prop_assert_eq!((lanes.active(), lanes.waiting()), (active.len(), here.len() - active.len()));
        }
        while let Some(ticket) = active.pop_first() {
            lanes.leave(ticket);
            here.remove(&ticket);
            active.extend(lanes.grant());
        }
        prop_assert!(here.is_empty(), "somebody was forgotten: {:?}", here);
    }
}
