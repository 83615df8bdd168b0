use super::*;
use proptest::prelude::*;

fn call(id: u32) -> ToolCall {
    ToolCall { id: id.to_string(), name: "exec".into(), arguments: serde_json::Map::new() }
}

#[test]
fn a_turn_with_two_calls_and_a_message_in_between() {
    let mut turn = Turn::default();
    assert_eq!(turn.next(), Step::CallModel);
    turn.model_answered(vec![call(1), call(2), call(3)]);
    assert_eq!(turn.next(), Step::RunTool(call(1)));
    turn.steered();
    turn.tool_answered();
    assert_eq!(turn.next(), Step::AnswerTool(call(2), Synthetic::Skipped));
    turn.tool_answered();
    assert_eq!(turn.next(), Step::AnswerTool(call(3), Synthetic::Skipped));
    turn.tool_answered();
    assert_eq!(turn.next(), Step::TakeSteer);
    turn.steer_taken();
    assert_eq!(turn.next(), Step::CallModel);
    turn.model_answered(vec![]);
    assert_eq!(turn.next(), Step::Finish(End::Answered));
}

#[test]
fn a_message_after_the_answer_goes_on() {
    let mut turn = Turn::default();
    turn.model_answered(vec![]);
    turn.steered();
    assert_eq!(turn.next(), Step::TakeSteer);
    turn.steer_taken();
    assert_eq!(turn.next(), Step::CallModel);
}

#[test]
fn calls_without_end_are_cut() {
    let mut turn = Turn::default();
    for id in 0..MODEL_CALLS_MAX {
        turn.model_answered(vec![call(id)]);
        turn.tool_answered();
    }
    assert_eq!(turn.next(), Step::Finish(End::TooManyCalls));
}

#[derive(Clone, Debug)]
enum Outside {
    Nothing,
    Steer,
    Abort,
    TimeOut,
}

fn outside() -> impl Strategy<Value = Outside> {
    prop_oneof![
        6 => Just(Outside::Nothing),
        2 => Just(Outside::Steer),
        1 => Just(Outside::Abort),
        1 => Just(Outside::TimeOut),
    ]
}

proptest! {
    /// Any model and any outside: each call is answered once and in order, nothing begins after a stop, every message
    /// taken before the end is written, and the run ends.
    #[test]
    fn the_rules_hold(
        answers in proptest::collection::vec(0..4_usize, 0..12),
        fails in any::<bool>(),
        events in proptest::collection::vec(outside(), 0..80),
    ) {
        let mut turn = Turn::default();
        let mut answers = answers.into_iter();
        let mut events = events.into_iter();
        let mut open: VecDeque<ToolCall> = VecDeque::new();
        let (mut ids, mut steers, mut taken, mut ended) = (0, 0, 0, None);
        for _ in 0..500 {
            match events.next().unwrap_or(Outside::Nothing) {
                Outside::Nothing => {}
                Outside::Steer => { turn.steered(); steers += 1; }
                Outside::Abort => turn.stop(Stop::Aborted),
                Outside::TimeOut => turn.stop(Stop::TimedOut),
            }
            let step = turn.next();
            prop_assert_eq!(&step, &turn.next(), "asking twice changes nothing");
            if turn.stopped().is_some() {
                prop_assert!(!matches!(step, Step::CallModel | Step::RunTool(_) | Step::TakeSteer));
            }
            match step {
                Step::CallModel => {
                    prop_assert!(open.is_empty());
                    match answers.next() {
                        None if fails => turn.model_failed(),
                        count => {
                            let calls: Vec<_> = (0..count.unwrap_or(0)).map(|_| { ids += 1; call(ids) }).collect();
                            open = calls.clone().into();
                            turn.model_answered(calls);
                        }
                    }
                }
                Step::RunTool(asked) | Step::AnswerTool(asked, _) => {
                    prop_assert_eq!(Some(asked), open.pop_front());
                    turn.tool_answered();
                }
                Step::TakeSteer => { taken += 1; turn.steer_taken(); }
                Step::Finish(end) => { ended = Some(end); break; }
            }
        }
        prop_assert!(open.is_empty());
        prop_assert!(taken <= steers);
        prop_assert!(ended.is_some(), "the run ends");
        if ended == Some(End::Answered) {
            prop_assert_eq!(taken, steers);
        }
    }
}
