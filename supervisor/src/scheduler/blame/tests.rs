use super::Blame;
use super::runs::{ALONE_MS_MIN, BEGIN_MS_MAX, Runs};
use futures_util::FutureExt;
use proptest::prelude::*;
use proto::wire::Id;
use std::collections::VecDeque;
use tokio::time::{Duration, Instant};

const A: Id = Id([1; 16]);
const B: Id = Id([2; 16]);
const NEW: Id = Id([3; 16]);

fn minutes(n: u64) -> Duration {
    Duration::from_millis(n * ALONE_MS_MIN)
}

#[test]
fn one_that_was_alone_is_counted_and_nobody_has_to_wait() {
    let (mut runs, now) = (Runs::default(), Instant::now());
    runs.begins(A, 1, now);
    assert!(runs.died(1, true, now));
    assert_eq!((runs.waits(A, now), runs.waits(NEW, now)), (None, None));
    runs.begins(A, 2, now);
    assert!(!runs.died(2, false, now), "killed from outside");
    assert!(!runs.died(2, true, now), "nothing was there");
}

#[test]
fn of_several_nobody_is_counted_and_they_go_on_one_after_the_other() {
    let (mut runs, now) = (Runs::default(), Instant::now());
    runs.begins(B, 1, now);
    runs.begins(A, 1, now);
    assert!(!runs.died(1, true, now));
    assert!(runs.waits(A, now).is_none() && runs.waits(B, now).is_some() && runs.waits(NEW, now).is_some());
    runs.begins(A, 2, now);
    assert!(runs.died(2, true, now), "now it is known");
    assert!(runs.waits(A, now).is_some() && runs.waits(B, now).is_none(), "the innocent goes first");
    runs.begins(B, 3, now);
    runs.ends(B, now);
    assert!(runs.waits(A, now).is_none() && runs.waits(NEW, now).is_some());
    runs.begins(A, 3, now);
    assert!(runs.died(3, true, now));
    runs.ends(A, now);
    assert!(runs.waits(NEW, now).is_none(), "calm again");
}

#[test]
fn the_time_alone_begins_with_the_run_and_doubles_with_each_shared_death() {
    let (mut runs, mut now) = (Runs::default(), Instant::now());
    for (epoch, alone) in (1..).zip([1, 2, 4, 8, 16, 32, 64, 64]) {
        runs.begins(A, 2 * epoch, now);
        runs.begins(B, 2 * epoch, now);
        assert!(!runs.died(2 * epoch, true, now));
        let first = if runs.waits(A, now).is_none() { A } else { B };
        // Its worker takes a while to come up.
        now += minutes(2);
        assert!(runs.waits(NEW, now).is_some(), "round {epoch}: it has not begun");
        runs.begins(first, 2 * epoch + 1, now);
        now += minutes(alone) - Duration::from_secs(1);
        assert!(runs.waits(NEW, now).is_some(), "round {epoch}: it is alone");
        now += Duration::from_secs(1);
        assert!(runs.waits(NEW, now).is_none(), "round {epoch}: it lives");
        assert!(!runs.died(2 * epoch + 1, false, now));
    }
}

#[test]
fn one_that_cannot_begin_does_not_hold_the_others_up_for_ever() {
    let (mut runs, now) = (Runs::default(), Instant::now());
    runs.begins(A, 1, now);
    runs.begins(B, 1, now);
    runs.died(1, true, now);
    let late = now + Duration::from_millis(BEGIN_MS_MAX);
    assert_eq!(runs.waits(B, now), Some(late));
    assert!(runs.waits(B, late).is_none() && runs.waits(A, late).is_some(), "its turn");
    let later = late + Duration::from_millis(BEGIN_MS_MAX);
    assert!(runs.waits(A, later).is_none() && runs.is_calm());
}

#[test]
fn a_run_that_the_next_worker_has_already_is_not_there_when_the_last_one_is_reported_dead() {
    let (mut runs, now) = (Runs::default(), Instant::now());
    runs.begins(A, 1, now);
    runs.begins(B, 2, now);
    assert!(runs.died(1, true, now));
    runs.begins(A, 2, now);
    assert!(!runs.died(2, true, now), "both were");
}

#[test]
fn suspects_and_what_they_shared_go_on_in_the_next_image() {
    let (before, after) = (Blame::default(), Blame::default());
    for epoch in 1..=2 {
        before.begins("main", A, epoch);
        before.begins("main", B, epoch);
        assert!(!before.died("main", epoch, true));
    }
    before.begins("main", A, 3);
    after.restore(before.carry());
    after.begins("main", A, 3);
    assert_eq!(after.carry(), before.carry());
    assert_eq!(after.carry()[0].records.iter().map(|record| record.shared).collect::<Vec<_>>(), [2, 2]);
    assert!(!after.is_calm("main") && after.died("main", 3, true), "it was alone");
    assert!(after.carry()[0].records.iter().all(|record| record.suspect));
}

/// What a run does whenever a worker has it.
#[derive(Clone, Copy, Debug)]
enum Does {
    EndsAfter(Duration),
    KillsAfter(Duration),
}

impl Does {
    fn after(self) -> Duration {
        match self {
            Self::EndsAfter(after) | Self::KillsAfter(after) => after,
        }
    }
}

#[derive(Debug)]
struct Live {
    id: Id,
    does: Does,
    /// Since when the worker has it.
    since: Option<Instant>,
    counted: u32,
}

/// Places in the lanes; a run that waits for its turn keeps its place.
const LANES: usize = 4;
/// Deaths of its own that set a message aside.
const COUNTED_MAX: u32 = 3;

/// Runs of one agent, one after the other through four lanes, until the last has come to rest. Gives the deaths.
struct World {
    runs: Runs,
    now: Instant,
    coming: VecDeque<Does>,
    live: Vec<Live>,
    epoch: u64,
    /// When the worker is up (again).
    up: Instant,
    deaths: u32,
    next_id: u8,
}

impl World {
    fn admit(&mut self) {
        while self.live.len() < LANES
            && let Some(does) = self.coming.pop_front()
        {
            let mut id = [0; 16];
            self.next_id = self.next_id.wrapping_add(1);
            id[..8].copy_from_slice(&(self.coming.len() as u64 ^ u64::MAX).to_be_bytes());
            id[8] = self.next_id;
            self.live.push(Live { id: Id(id), does, since: None, counted: 0 });
        }
    }

    fn start_all_that_may(&mut self) {
        if self.now < self.up {
            return;
        }
        for run in self.live.iter_mut().filter(|run| run.since.is_none()) {
            if self.runs.waits(run.id, self.now).is_none() {
                self.runs.begins(run.id, self.epoch, self.now);
                run.since = Some(self.now);
            }
        }
    }

    /// The next moment at which something happens.
    fn step_to(&mut self) {
        let now = self.now;
        let does = self.live.iter().filter_map(|run| Some(run.since? + run.does.after())).min();
        let waits: Vec<Id> = self.live.iter().filter(|run| run.since.is_none()).map(|run| run.id).collect();
        let turn = waits.into_iter().filter_map(|id| self.runs.waits(id, now)).min();
        let up = Some(self.up).filter(|up| *up > now);
        self.now = does.into_iter().chain(turn).chain(up).min().expect("something happens");
    }

    fn dies(&mut self, own_fault: bool, down: Duration) {
        let there = self.live.iter().filter(|run| run.since.is_some()).count();
        let counts = self.runs.died(self.epoch, own_fault, self.now);
        assert!(!counts || there == 1, "blamed although it was not alone");
        for run in &mut self.live {
            run.counted += u32::from(counts && run.since.take().is_some());
            run.since = None;
        }
        self.deaths += u32::from(own_fault);
        self.epoch += 1;
        self.up = self.now + down;
    }

    fn take_out(&mut self, over: impl Fn(&Live) -> bool) {
        let now = self.now;
        for run in self.live.extract_if(.., |run| over(run)) {
            self.runs.ends(run.id, now);
            let innocent = matches!(run.does, Does::EndsAfter(_));
            assert!(!innocent || run.counted == 0, "an innocent run was blamed: {run:?}");
        }
    }
}

fn deaths_until_all_rest(coming: Vec<Does>, downs: &[u64], outside: &[bool], deaths_max: u32) -> u32 {
    let now = Instant::now();
    let mut world = World {
        runs: Runs::default(),
        now,
        coming: coming.into(),
        live: Vec::new(),
        epoch: 1,
        up: now,
        deaths: 0,
        next_id: 0,
    };
    let mut chance = downs.iter().cycle().zip(outside.iter().cycle());
    loop {
        world.admit();
        world.start_all_that_may();
        if world.live.is_empty() {
            return world.deaths;
        }
        world.step_to();
        let now = world.now;
        let is_due = |run: &Live| run.since.is_some_and(|since| since + run.does.after() <= now);
        world.take_out(|run| is_due(run) && matches!(run.does, Does::EndsAfter(_)));
        if world.live.iter().any(is_due) {
            let (down, outside) = chance.next().expect("an endless one");
            let down = Duration::from_secs(*down);
            if *outside {
                // Somebody else was quicker.
                world.dies(false, down);
            } else {
                world.dies(true, down);
            }
            world.take_out(|run| run.counted >= COUNTED_MAX);
            assert!(world.deaths <= deaths_max, "{} deaths and no end", world.deaths);
        }
    }
}

fn innocent() -> impl Strategy<Value = Does> {
    prop_oneof![9 => 1u64..120, 1 => 120u64..7_000]
        .prop_map(|seconds| Does::EndsAfter(Duration::from_secs(seconds)))
}

/// Who asks why nothing begins is told, as long as something waits.
#[tokio::test]
async fn runs_that_wait_are_shown_with_whom_they_wait_for() {
    let blame = Blame::default();
    blame.begins("main", A, 1);
    blame.begins("main", B, 1);
    assert!(!blame.died("main", 1, true));
    blame.begins("main", A, 2);
    assert_eq!(blame.waits(), [], "nobody waits yet");
    let (mut second, mut third) = (Box::pin(blame.turn("main", B)), Box::pin(blame.turn("main", NEW)));
    assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
    let shown = blame.waits();
    assert_eq!((shown[0].agent_id.as_str(), shown[0].run_id, shown[0].waiting), ("main", A, 2));
    assert!((1..=ALONE_MS_MIN).contains(&shown[0].at_most_ms), "{shown:?}");
    drop(third);
    assert_eq!(blame.waits()[0].waiting, 1);
    blame.ends("main", A);
    assert!((&mut second).now_or_never().is_some(), "its turn");
    assert_eq!(blame.waits(), [], "nobody waits any more");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// However long a run takes to kill its worker, and whoever runs beside it.
    #[test]
    fn every_run_that_kills_its_worker_comes_to_rest_and_no_innocent_one_is_blamed(
        innocents in prop::collection::vec(innocent(), 0..600),
        killers in prop::collection::vec((any::<prop::sample::Index>(), 1u64..3_600), 1..3),
        downs in prop::collection::vec(0u64..90, 1..9),
        mut outside in prop::collection::vec(prop::bool::weighted(0.2), 1..9),
    ) {
        outside.push(false);
        let count = u32::try_from(killers.len()).expect("few");
        let mut coming = innocents;
        for (place, seconds) in killers {
            coming.insert(place.index(coming.len() + 1), Does::KillsAfter(Duration::from_secs(seconds)));
        }
        // Three that count, each with one that is shared, and per doubling each of those beside it once before it.
        let deaths_max = count * (2 * COUNTED_MAX + 7 * u32::try_from(LANES).expect("few"));
        deaths_until_all_rest(coming, &downs, &outside, deaths_max);
    }
}
