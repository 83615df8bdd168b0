use super::*;
use proptest::prelude::*;

#[test]
fn requests_are_read_leniently_and_refused_by_name() {
    let good = read_request(br#"{"type":"req","id":"1","method":"health","traceparent":"x"}"#).unwrap();
    assert_eq!((good.id.as_str(), good.method.as_str(), good.params), ("1", "health", json!({})));
    let cases: [&[u8]; 7] = [
        b"{nope",
        b"null",
        b"[]",
        br#"{"type":"event","event":"x"}"#,
        br#"{"type":"req","method":"x"}"#,
        br#"{"type":"req","id":"7"}"#,
        br#"{"type":"req","id":"7","method":""}"#,
    ];
    let table: Vec<String> = cases
        .iter()
        .map(|c| format!("{} => {:?}", String::from_utf8_lossy(c), read_request(c).unwrap_err()))
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn nesting_is_limited_outside_of_strings_only() {
    let deep = |n: usize| {
        format!(r#"{{"type":"req","id":"1","method":"m","params":{}1{}}}"#, "[".repeat(n), "]".repeat(n))
    };
    assert!(read_request(deep(60).as_bytes()).is_ok());
    assert_eq!(read_request(deep(70).as_bytes()), Err(Unreadable::NotJson));
    let text = format!(r#"{{"type":"req","id":"1","method":"m","params":"{}\"["}}"#, "[".repeat(500));
    assert!(read_request(text.as_bytes()).is_ok());
}

#[test]
fn events_join_head_payload_and_tail() {
    let payload = Bytes::from_static(br#"{"ts":1}"#);
    let text = String::from_utf8(write_event("tick", &payload, Some(4), None)).unwrap();
    assert_eq!(text, r#"{"type":"event","event":"tick","payload":{"ts":1},"seq":4}"#);
    let version = Some(StateVersion { presence: 2, health: 9 });
    let text = String::from_utf8(write_event("health", &payload, None, version)).unwrap();
    assert_eq!(
        text,
        r#"{"type":"event","event":"health","payload":{"ts":1},"stateVersion":{"presence":2,"health":9}}"#
    );
}

proptest! {
    #[test]
    fn responses_are_json_and_keep_the_id(id in ".{1,20}", message in ".{0,40}") {
        let error = ErrorShape::unavailable(message.clone());
        let value: Value = serde_json::from_str(&write_response(&id, Err(&error))).unwrap();
        prop_assert_eq!(&value["id"], &Value::from(id.clone()));
        prop_assert_eq!(&value["error"]["message"], &Value::from(message));
        let raw = Body::Raw(RawValue::from_string("[1,2]".into()).unwrap());
        let value: Value = serde_json::from_str(&write_response(&id, Ok(&raw))).unwrap();
        prop_assert_eq!(&value["payload"], &json!([1, 2]));
    }

    #[test]
    fn close_reasons_fit_and_stay_text(reason in ".{0,200}") {
        let cut = close_reason(&reason);
        prop_assert!(cut.len() <= 120 && reason.starts_with(cut));
        prop_assert!(reason.len() <= 120 || cut.len() > 116);
    }

    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_request(&bytes);
    }
}
