use super::*;
use crate::wire::agent::{AgentToSup, Delta, DeltaKind};
use crate::wire::id::Id;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const CODE: u16 = 0x0310;

fn durable(bytes: usize) -> Outgoing {
    Outgoing { code: CODE, class: Class::Durable, flags: Flags::NONE, payload: vec![7; bytes].into() }
}

fn delta(run: u8, text: &str) -> AgentToSup {
    AgentToSup::Delta(Delta {
        run_id: Id([run; 16]),
        attempt: 1,
        message: 0,
        kind: DeltaKind::Text,
        text: text.into(),
    })
}

fn pair() -> (LinkState, LinkState) {
    (
        LinkState::new(Side::Supervisor, LinkRules::default()),
        LinkState::new(Side::Worker, LinkRules::default()),
    )
}

/// Moves every frame that may go, both ways, until nothing moves.
fn settle(a: &mut LinkState, b: &mut LinkState) -> Vec<Effect> {
    let mut effects = Vec::new();
    loop {
        let mut moved = false;
        while let Some(frame) = a.next_frame() {
            effects.extend(b.received(frame, 0).unwrap());
            moved = true;
        }
        while let Some(frame) = b.next_frame() {
            effects.extend(a.received(frame, 0).unwrap());
            moved = true;
        }
        if !moved {
            return effects;
        }
    }
}

fn drain(link: &mut LinkState) -> Vec<Delivery> {
    std::iter::from_fn(|| link.next_delivery()).collect()
}

#[test]
fn a_request_gets_its_answer_and_a_second_one_closes_the_link() {
    let (mut sup, mut worker) = pair();
    let corr = sup.request(durable(10), 1000, 0).unwrap();
    assert_eq!(corr, 1);
    settle(&mut sup, &mut worker);
    let asked = drain(&mut worker);
    assert!(matches!(asked[..], [Delivery::Message { corr: 1, code: CODE, .. }]), "{asked:?}");
    worker.reply(1, durable(20)).unwrap();
    assert_eq!(worker.reply(1, durable(20)), Err(SendRefusal::NotOpen { corr: 1 }));
    let frame = worker.next_frame().unwrap();
    let effects = sup.received(frame.clone(), 0).unwrap();
    assert!(matches!(effects[..], [Effect::Answered { corr: 1, answer: Answer::Ok { code: CODE, .. } }]));
    assert_eq!(sup.received(frame, 0), Err(Violation::SecondTerminal { corr: 1 }));
}

#[test]
fn a_late_answer_is_dropped_and_counted() {
    let (mut sup, mut worker) = pair();
    let corr = sup.request(durable(10), 100, 0).unwrap();
    settle(&mut sup, &mut worker);
    assert_eq!(sup.tick(100), [Effect::Answered { corr, answer: Answer::TimedOut }]);
    assert_eq!(sup.tick(100 + limits::CANCEL_GRACE_MS), []);
    drain(&mut worker);
    worker.reply(corr, durable(1)).unwrap();
    assert_eq!(sup.received(worker.next_frame().unwrap(), 9000).unwrap(), []);
    assert_eq!(sup.tally().late_answers, 1);
}

#[test]
fn a_cancelled_request_that_nobody_answers_is_closed_for_its_handler() {
    let (mut sup, mut worker) = pair();
    let corr = sup.request(durable(10), 60_000, 0).unwrap();
    settle(&mut sup, &mut worker);
    sup.cancel(corr, 0);
    sup.cancel(corr, 0);
    settle(&mut sup, &mut worker);
    let got = drain(&mut worker);
    assert_eq!(got.iter().filter(|item| **item == Delivery::Cancel { corr }).count(), 1);
    worker.tick(limits::CANCEL_GRACE_MS);
    assert_eq!(worker.reply(corr, durable(1)), Err(SendRefusal::NotOpen { corr }));
    let effects = settle(&mut sup, &mut worker);
    assert!(
        matches!(&effects[..], [Effect::Answered { answer: Answer::Refused(error), .. }] if error.code == "CANCELLED")
    );
}

#[test]
fn a_large_result_goes_as_parts_and_comes_back_whole() {
    let (mut sup, mut worker) = pair();
    let corr = sup.request(durable(10), 60_000, 0).unwrap();
    settle(&mut sup, &mut worker);
    drain(&mut worker);
    let payload: Bytes = (0..5_000_000u32).map(|n| n as u8).collect::<Vec<_>>().into();
    worker.reply(corr, Outgoing { payload: payload.clone(), ..durable(0) }).unwrap();
    let effects = settle(&mut sup, &mut worker);
    assert_eq!(effects, [Effect::Answered { corr, answer: Answer::Ok { code: CODE, payload } }]);
    assert_eq!((worker.buffered_bytes(), sup.buffered_bytes()), (0, 0));
    let corr = sup.request(durable(10), 60_000, 0).unwrap();
    settle(&mut sup, &mut worker);
    let refused = worker.reply(corr, durable(limits::RESULT_BYTES_MAX + 1));
    assert!(matches!(refused, Err(SendRefusal::TooLarge { .. })));
}

#[test]
fn deltas_merge_only_up_to_the_next_durable_message() {
    let (_, mut worker) = pair();
    // Without credit nothing leaves, so everything waits.
    while worker.send(durable(1000 * 1000)).is_ok() {}
    let _ = std::iter::from_fn(|| worker.next_frame()).count();
    for text in ["a", "b", "c"] {
        worker.send_lossy(delta(1, text)).unwrap();
    }
    worker.send(durable(700_000)).unwrap();
    worker.send_lossy(delta(1, "d")).unwrap();
    worker.send_lossy(delta(2, "e")).unwrap();
    assert_eq!(worker.tally().lossy_merged, 2);
    worker.outbox.credited(limits::LINK_WINDOW_BYTES as u64 - worker.credit_bytes()).unwrap();
    let frames: Vec<_> = std::iter::from_fn(|| worker.next_frame()).collect();
    let texts: Vec<_> = frames
        .iter()
        .map(|frame| match AgentToSup::decode(frame.code, &frame.payload) {
            Ok(AgentToSup::Delta(delta)) => delta.text,
            _ => "#".into(),
        })
        .collect();
    assert_eq!(texts, ["abc", "#", "d", "e"]);
}

#[test]
fn unknown_messages_are_answered_or_ignored() {
    let rules = LinkRules { known: |_| Known::No, ..LinkRules::default() };
    let (mut sup, _) = pair();
    let mut worker = LinkState::new(Side::Worker, rules);
    sup.send(durable(1)).unwrap();
    let corr = sup.request(durable(1), 1000, 0).unwrap();
    let effects = settle(&mut sup, &mut worker);
    assert!(drain(&mut worker).is_empty());
    assert_eq!(worker.tally().unknown_ignored, 2);
    assert!(
        matches!(&effects[..], [Effect::Answered { corr: c, answer: Answer::Refused(error) }] if *c == corr && error.code == "UNSUPPORTED")
    );
}

#[test]
fn pause_silences_the_worker_until_resume() {
    let (mut sup, mut worker) = pair();
    sup.pause().unwrap();
    assert_eq!(settle(&mut sup, &mut worker), [Effect::Paused]);
    worker.send(durable(5)).unwrap();
    sup.send(durable(6)).unwrap();
    settle(&mut sup, &mut worker);
    assert!(drain(&mut sup).is_empty() && drain(&mut worker).is_empty());
    // A peer that does not keep quiet.
    let frame = durable(1).frame(0);
    let mut other = LinkState::new(Side::Supervisor, LinkRules::default());
    other.pause().unwrap();
    other.next_frame();
    other.received(Outgoing::of(&LinkControl::Paused(Paused {})).frame(0), 0).unwrap();
    assert_eq!(other.received(frame, 0), Err(Violation::FrameDuringPause));
    sup.resume().unwrap();
    settle(&mut sup, &mut worker);
    assert_eq!((drain(&mut sup).len(), drain(&mut worker).len()), (1, 1));
}

#[test]
fn a_confirmation_that_crossed_a_resume_does_not_count_for_the_next_pause() {
    let (mut sup, mut worker) = pair();
    let step = |from: &mut LinkState, to: &mut LinkState| to.received(from.next_frame().unwrap(), 0).unwrap();
    sup.pause().unwrap();
    step(&mut sup, &mut worker);
    let first = worker.next_frame().unwrap();
    sup.resume().unwrap();
    step(&mut sup, &mut worker);
    worker.send(durable(1)).unwrap();
    let between = worker.next_frame().unwrap();
    sup.pause().unwrap();
    assert_eq!(sup.received(first, 0).unwrap(), []);
    assert_eq!(sup.received(between, 0).unwrap(), []);
    step(&mut sup, &mut worker);
    assert_eq!(step(&mut worker, &mut sup), [Effect::Paused]);
}

#[test]
fn a_hostile_peer_is_found_out() {
    let received = |frames: &[Frame]| {
        let mut sup = LinkState::new(Side::Supervisor, LinkRules::default());
        frames.iter().find_map(|frame| sup.received(frame.clone(), 0).err())
    };
    let big = durable(1_000_000).frame(0);
    assert!(matches!(received(&[big.clone(), big.clone(), big]), Some(Violation::CreditOverrun { .. })));
    let ask = |corr| durable(1).frame(corr);
    assert_eq!(received(&[ask(2), ask(2)]), Some(Violation::ReplayedCorr { corr: 2 }));
    assert_eq!(received(&[ask(4), ask(2)]), Some(Violation::ReplayedCorr { corr: 2 }));
    assert_eq!(received(&[ask(3)]), Some(Violation::WrongCorr { corr: 3 }));
    let answer = Frame { flags: Flags::IS_RESPONSE, ..ask(1) };
    assert_eq!(received(&[answer]), Some(Violation::WrongCorr { corr: 1 }));
    let credit = Outgoing::of(&LinkControl::Credit(Credit { bytes: 1 })).frame(0);
    assert_eq!(received(&[credit]), Some(Violation::CreditForged));
    let pause = Outgoing::of(&LinkControl::Pause(Pause {})).frame(0);
    assert!(matches!(received(&[pause]), Some(Violation::WrongDirection { .. })));
    let garbage =
        Frame { payload: vec![0xc1].into(), ..Outgoing::of(&LinkControl::Resume(Resume {})).frame(0) };
    assert!(matches!(received(&[garbage]), Some(Violation::Payload(_))));
    let control = Frame { class: Class::Control, ..ask(0) };
    assert_eq!(received(&vec![control; 100]), Some(Violation::ControlFlood));
    let flood: Vec<_> = (1..=600).map(|n| ask(2 * n)).collect();
    assert_eq!(received(&flood), Some(Violation::RequestFlood));
}

/// One thing that either end may do.
#[derive(Clone, Debug)]
enum Op {
    Send(bool, usize),
    Lossy(bool, u8, usize),
    Request(bool, u64),
    Reply(bool, usize),
    Cancel(bool, usize),
    Move(bool, usize),
    Take(bool, usize),
    Pause,
    Resume,
    Time(u64),
    Close(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = prop_oneof![0usize..2_000, 100_000usize..1_048_000];
    prop_oneof![
        4 => (any::<bool>(), bytes.clone()).prop_map(|(s, n)| Op::Send(s, n)),
        4 => (any::<bool>(), 0u8..4, 1usize..50_000).prop_map(|(s, k, n)| Op::Lossy(s, k, n)),
        4 => (any::<bool>(), 1u64..5_000).prop_map(|(s, d)| Op::Request(s, d)),
        4 => (any::<bool>(), prop_oneof![bytes, 1_000_000usize..4_000_000]).prop_map(|(s, n)| Op::Reply(s, n)),
        2 => (any::<bool>(), any::<usize>()).prop_map(|(s, n)| Op::Cancel(s, n)),
        8 => (any::<bool>(), 1usize..20).prop_map(|(s, n)| Op::Move(s, n)),
        6 => (any::<bool>(), 1usize..20).prop_map(|(s, n)| Op::Take(s, n)),
        1 => Just(Op::Pause),
        1 => Just(Op::Resume),
        3 => (1u64..3_000).prop_map(Op::Time),
        1 => any::<bool>().prop_map(Op::Close),
    ]
}

/// Two honest ends with frames in flight between them, and books of their own.
struct World {
    ends: [LinkState; 2],
    /// Frames on their way to each end.
    wires: [VecDeque<Frame>; 2],
    /// Requests that an end's consumer may answer.
    asked: [Vec<u64>; 2],
    /// Requests of each end: number of outcomes told.
    outcomes: [BTreeMap<u64, u32>; 2],
    now: u64,
}

impl World {
    fn new() -> Self {
        let (sup, worker) = pair();
        Self {
            ends: [sup, worker],
            wires: Default::default(),
            asked: Default::default(),
            outcomes: Default::default(),
            now: 0,
        }
    }

    fn note(&mut self, end: usize, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Answered { corr, .. } = effect {
                *self.outcomes[end].get_mut(&corr).expect("an answer to a request that was made") += 1;
            }
        }
    }

    fn moved(&mut self, from: usize, count: usize) {
        for _ in 0..count {
            if let Some(frame) = self.ends[from].next_frame() {
                self.wires[1 - from].push_back(frame);
            }
            if let Some(frame) = self.wires[from].pop_front() {
                let effects = self.ends[from].received(frame, self.now).expect("honest ends break no rule");
                self.note(from, effects);
            }
        }
    }

    fn taken(&mut self, end: usize, count: usize) {
        for _ in 0..count {
            match self.ends[end].next_delivery() {
                Some(Delivery::Message { corr, .. }) if corr != 0 => self.asked[end].push(corr),
                _ => {}
            }
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Send(end, bytes) => drop(self.ends[end as usize].send(durable(bytes))),
            Op::Lossy(end, key, bytes) => {
                let _ = self.ends[end as usize].send_lossy(delta(key, &"x".repeat(bytes)));
            }
            Op::Request(end, deadline) => {
                if let Ok(corr) = self.ends[end as usize].request(durable(9), deadline, self.now) {
                    assert!(self.outcomes[end as usize].insert(corr, 0).is_none(), "corr is fresh");
                }
            }
            Op::Reply(end, bytes) => {
                if let Some(corr) = self.asked[end as usize].pop() {
                    let _ = self.ends[end as usize].reply(corr, durable(bytes));
                }
            }
            Op::Cancel(end, pick) => {
                let corrs: Vec<_> = self.outcomes[end as usize].keys().copied().collect();
                if !corrs.is_empty() {
                    self.ends[end as usize].cancel(corrs[pick % corrs.len()], self.now);
                }
            }
            Op::Move(end, count) => self.moved(end as usize, count),
            Op::Take(end, count) => self.taken(end as usize, count),
            Op::Pause => drop(self.ends[0].pause()),
            Op::Resume => drop(self.ends[0].resume()),
            Op::Time(ms) => {
                self.now += ms;
                for end in 0..2 {
                    let effects = self.ends[end].tick(self.now);
                    self.note(end, effects);
                }
            }
            Op::Close(end) => {
                let effects = self.ends[end as usize].close();
                self.note(end as usize, effects);
            }
        }
    }

    fn check(&self) {
        let bound = 2 * limits::LINK_WINDOW_BYTES as u64
            + limits::LOSSY_QUEUE_BYTES_MAX as u64
            + 2 * limits::RESULTS_BYTES_MAX as u64
            + limits::CONTROL_INBOX_BYTES_MAX as u64;
        for end in 0..2 {
            assert!(self.ends[end].credit_bytes() <= limits::LINK_WINDOW_BYTES as u64);
            assert!(self.ends[end].buffered_bytes() <= bound);
            assert!(self.outcomes[end].values().all(|count| *count <= 1), "one outcome per request");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn honest_ends_never_break_a_rule(ops in proptest::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        for op in ops {
            // A closed end is silent; the other learns of it from the socket, which is not part of this model.
            if world.ends.iter().any(LinkState::is_closed) {
                break;
            }
            world.run(op);
            world.check();
        }
    }

    #[test]
    fn every_request_ends_and_every_buffer_empties(ops in proptest::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in ops.into_iter().filter(|op| !matches!(op, Op::Close(_))) {
            world.run(op);
        }
        let _ = world.ends[0].resume();
        for _ in 0..40 {
            for end in 0..2 {
                world.moved(end, 2_000);
                world.taken(end, 2_000);
            }
            world.run(Op::Time(1_000));
        }
        for end in 0..2 {
            prop_assert!(world.outcomes[end].values().all(|count| *count == 1), "{:?}", world.outcomes);
            prop_assert_eq!(world.ends[end].buffered_bytes(), 0);
            prop_assert!(world.ends[end].is_flushed());
        }
    }

    #[test]
    fn corrs_never_repeat_and_keep_their_side(count in 1usize..200) {
        let (mut sup, mut worker) = pair();
        let mut seen = BTreeSet::new();
        for _ in 0..count {
            let (a, b) = (sup.request(durable(1), 1, 0).unwrap(), worker.request(durable(1), 1, 0).unwrap());
            prop_assert!(a % 2 == 1 && b % 2 == 0);
            prop_assert!(seen.insert(a) && seen.insert(b));
        }
    }
}
