use super::*;
use std::collections::HashSet;

#[test]
fn the_table_of_methods() {
    let mut lines: Vec<String> = TABLE
        .iter()
        .map(|m| format!("{} | {:?} | {:?} | {:?}", m.name, m.access, m.owner, m.repeat))
        .collect();
    assert_eq!(
        TABLE.iter().map(|m| m.name).collect::<HashSet<_>>().len(),
        TABLE.len(),
        "a name occurs twice"
    );
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn rights_are_checked_in_the_shape_of_the_protocol() {
    let method = BY_NAME["device.pair.list"];
    let mut caller = Caller::local_operator("c".into(), 4, "test");
    assert!(authorise(method, &caller).is_ok());
    caller.scopes = vec![READ.into()];
    let refused = authorise(method, &caller).unwrap_err();
    assert_eq!(
        (refused.code.as_ref(), refused.message.as_str()),
        ("FORBIDDEN", "missing scope: operator.pairing")
    );
    caller.protocol = 3;
    assert_eq!(authorise(method, &caller).unwrap_err().code, "INVALID_REQUEST");
    assert!(authorise(BY_NAME["health"], &caller).is_ok());
    caller.role = Role::Node;
    let refused = authorise(BY_NAME["health"], &caller).unwrap_err();
    assert!(is_wrong_role(&refused));
    assert_eq!(refused.message, "unauthorized role: node");
}
