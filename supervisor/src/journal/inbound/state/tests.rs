use super::*;

#[test]
fn table() {
    let mut lines = String::new();
    for state in InboundState::ALL {
        for event in InboundEvent::ALL {
            let to = state.on(event).map_or("-", InboundState::name);
            lines += &format!("{:<11} {:<9} {to}\n", state.name(), event.name());
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn codes_are_for_ever() {
    let codes: Vec<_> = InboundState::ALL.iter().map(|s| (s.code(), s.name())).collect();
    let recorded =
        [(0, "received"), (1, "queued"), (2, "claimed"), (3, "done"), (4, "suppressed"), (5, "dead")];
    assert_eq!(codes, recorded);
}
