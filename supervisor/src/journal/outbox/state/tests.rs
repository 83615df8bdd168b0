use proptest::prelude::*;

use super::*;

fn facts(class: SendClass, wire: WireKind) -> Facts {
    Facts { class, on_unknown: OnUnknown::Resend, wire, is_edit: false, maybe_dup: false, age_us: 0 }
}

fn show(step: Result<Step, Illegal>) -> String {
    match step {
        Err(_) => "-".into(),
        Ok(Step { to, effect: Effect::None }) => to.name().into(),
        Ok(Step { to, effect }) => format!("{} + {effect:?}", to.name()),
    }
}

#[test]
fn table() {
    let mut lines = String::from(
        "state        event              nothing sent yet / content was on the wire (class A)\n",
    );
    for state in OutState::ALL {
        for event in OutEvent::ALL {
            let never = show(state.on(event, facts(SendClass::A, WireKind::Nothing)));
            let wired = show(state.on(event, facts(SendClass::A, WireKind::Content)));
            lines += &format!("{:<12} {:<18} {never} / {wired}\n", state.name(), event.name());
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn unknown_outcomes_by_class() {
    let mut lines =
        String::from("class policy wire        edit  dup   old   the worker died with it on the wire\n");
    for class in SendClass::ALL {
        for on_unknown in OnUnknown::ALL {
            for wire in [WireKind::Placeholder, WireKind::Content, WireKind::Plain] {
                for flags in 0..8_u8 {
                    let (is_edit, maybe_dup, old) = (flags & 1 > 0, flags & 2 > 0, flags & 4 > 0);
                    let age_us = if old { RESEND_AGE_US_MAX } else { 0 };
                    let facts =
                        Facts { class: *class, on_unknown: *on_unknown, wire, is_edit, maybe_dup, age_us };
                    lines += &format!(
                        "{:<5} {:<6} {:<11} {is_edit:<5} {maybe_dup:<5} {old:<5} {}\n",
                        class.name(),
                        on_unknown.name(),
                        wire.name(),
                        show(OutState::Wire.on(OutEvent::WorkerGone, facts))
                    );
                }
            }
        }
    }
    insta::assert_snapshot!(lines);
}

/// What happens in the world, chosen at random; the model keeps to what each party can truthfully say.
#[derive(Debug, Clone, Copy)]
enum Act {
    Lease,
    GoAhead,
    NetworkTakes,
    TellTruth,
    LoseConnection,
    WorkerDies,
    Reconcile,
    Expire,
    Revive,
}

/// One delivery and the chat that it lands in.
struct World {
    state: OutState,
    facts: Facts,
    /// The network holds the bytes of the present go-ahead.
    taken: bool,
    /// What each go-ahead allows.
    kind: WireKind,
    /// Copies that a reader sees.
    copies: u32,
    extra_allowed: u32,
}

impl World {
    fn feed(&mut self, event: OutEvent) {
        let Ok(step) = self.state.on(event, self.facts) else { return };
        if step.effect == Effect::MaybeDup {
            self.facts.maybe_dup = true;
            self.extra_allowed += 1;
        }
        self.state = step.to;
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Lease => self.feed(OutEvent::Lease),
            Act::GoAhead if self.state == OutState::Leased => {
                self.facts.wire = self.kind;
                self.taken = false;
                self.feed(OutEvent::SendStarted);
            }
            Act::NetworkTakes if self.state == OutState::Wire && !self.taken => {
                self.taken = true;
                let edits = self.facts.is_edit && self.kind != WireKind::Plain;
                let repeats_show = self.facts.class != SendClass::A && !edits;
                self.copies = if repeats_show { self.copies + 1 } else { 1 };
            }
            Act::TellTruth if self.state == OutState::Wire => {
                self.feed(if self.taken { OutEvent::Delivered } else { OutEvent::Retry });
            }
            Act::LoseConnection => self.feed(OutEvent::Unknown),
            Act::WorkerDies => self.feed(OutEvent::WorkerGone),
            Act::Reconcile if self.state == OutState::Unknown => {
                self.feed(if self.copies > 0 { OutEvent::Delivered } else { OutEvent::NotSent });
            }
            Act::Expire => self.feed(OutEvent::Expire),
            Act::Revive => self.feed(OutEvent::Revive),
            _ => {}
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Lease),
        4 => Just(Act::GoAhead),
        4 => Just(Act::NetworkTakes),
        2 => Just(Act::TellTruth),
        2 => Just(Act::LoseConnection),
        2 => Just(Act::WorkerDies),
        2 => Just(Act::Reconcile),
        1 => Just(Act::Expire),
        1 => Just(Act::Revive),
    ]
}

proptest! {
    #[test]
    fn no_unannounced_copy_and_no_false_delivery(
        class in 0..3_i64,
        hold in any::<bool>(),
        is_edit in any::<bool>(),
        plain in any::<bool>(),
        acts in prop::collection::vec(act(), 0..60),
    ) {
        let class = SendClass::from_code(class).unwrap();
        let on_unknown = if hold { OnUnknown::Hold } else { OnUnknown::Resend };
        let facts =
            Facts { class, on_unknown, wire: WireKind::Nothing, is_edit, maybe_dup: false, age_us: 0 };
        let kind = if plain { WireKind::Plain } else { WireKind::Content };
        let mut world = World { state: OutState::Pending, facts, taken: false, kind, copies: 0, extra_allowed: 0 };
        for act in acts {
            world.act(act);
            prop_assert!(world.copies <= 1 + world.extra_allowed, "{:?}: {} copies", act, world.copies);
            if world.state == OutState::Delivered {
                prop_assert!(world.copies >= 1);
            }
            if class == SendClass::C && hold && (plain || !is_edit) && world.state == OutState::Pending {
                prop_assert!(world.copies == 0 || world.facts.maybe_dup);
            }
        }
    }

    #[test]
    fn delivered_is_for_ever(event in 0..10_usize, class in 0..3_i64) {
        let facts = facts(SendClass::from_code(class).unwrap(), WireKind::Content);
        if let Ok(step) = OutState::Delivered.on(OutEvent::ALL[event], facts) {
            prop_assert_eq!(step.to, OutState::Delivered);
        }
    }
}
