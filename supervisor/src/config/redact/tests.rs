use super::*;
use crate::config::syntax::parse;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn short_secrets_and_references_leave_the_text_whole() {
    let text = "{ // a token: supersecret1\n  gateway: { auth: { token: 'supersecret1', password: \"a\" } },\n  env: { KEY: 5, OTHER: '${OTHER}' },\n  hooks: { token: '' }, password: 'supersecret1' }";
    let shown = redact_text(text, &parse(text).expect("json5"));
    let wanted = "{ // a token: __OPENCLAW_REDACTED__\n  gateway: { auth: { token: \"__OPENCLAW_REDACTED__\", password: \"__OPENCLAW_REDACTED__\" } },\n  env: { KEY: \"__OPENCLAW_REDACTED__\", OTHER: '${OTHER}' },\n  hooks: { token: '' }, password: \"__OPENCLAW_REDACTED__\" }";
    assert_eq!(shown, wanted);
}

#[test]
fn service_account_objects_are_hidden_whole() {
    let value = json!({"channels": {"googlechat": {"serviceAccount": {"private_key": "k"}, "name": "n"}}});
    let shown = redact(&value);
    assert_eq!(shown["channels"]["googlechat"], json!({"serviceAccount": SENTINEL, "name": "n"}));
    let mut back = shown;
    assert_eq!(restore(&mut back, &value), Ok(()));
    assert_eq!(back, value);
}

#[test]
fn list_items_follow_their_id() {
    let stored = json!({"l": [{"id": "a", "token": "ta"}, {"id": "b", "token": "tb"}]});
    let mut sent = json!({"l": [{"id": "b", "token": SENTINEL}]});
    assert_eq!(restore(&mut sent, &stored), Ok(()));
    assert_eq!(sent, json!({"l": [{"id": "b", "token": "tb"}]}));
}

#[test]
fn placeholders_without_a_stored_value_are_refused() {
    let wanted =
        "Sentinel value \"__OPENCLAW_REDACTED__\" in key gateway.auth.token is not valid as real data";
    let mut sent = json!({"gateway": {"auth": {"token": SENTINEL}}});
    assert_eq!(restore(&mut sent, &json!({})).map_err(|e| e.to_string()), Err(wanted.to_owned()));
    let text = sent.to_string();
    let result = restore_text(&text, &parse(&text).expect("json"), &json!({}));
    assert_eq!(result.map_err(|e| e.to_string()), Err(wanted.to_owned()));
    let mut longer = json!({"h": format!("Bearer {SENTINEL}")});
    assert!(restore(&mut longer, &json!({"h": "x"})).is_err());
}

fn config_like() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("token"),
        Just("apiKey"),
        Just("password"),
        Just("env"),
        Just("serviceAccount"),
        Just("name"),
        Just("maxTokens"),
        Just("headers"),
        Just("secretRef"),
        Just("list"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"'\\\\/ ${}A-Z]{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..5).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

fn holds_secret(value: &Value, path: &str) -> bool {
    match value {
        Value::String(text) => hides_text(path, text) && text != SENTINEL,
        Value::Number(_) => is_sensitive(path),
        Value::Object(map) => map.iter().any(|(key, value)| holds_secret(value, &below(path, key))),
        Value::Array(items) => {
            items.iter().enumerate().any(|(index, item)| holds_secret(item, &below(path, &index.to_string())))
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn what_is_hidden_comes_back(value in config_like()) {
        let mut shown = redact(&value);
        prop_assert!(!holds_secret(&shown, ""));
        restore(&mut shown, &value).expect("restored");
        prop_assert_eq!(&shown, &value);
    }

    #[test]
    fn the_same_in_text(value in config_like()) {
        let text = serde_json::to_string_pretty(&value).expect("json");
        let hidden = redact_text(&text, &parse(&text).expect("json5"));
        let tree = parse(&hidden).expect("still json5");
        prop_assert_eq!(tree.to_value(), redact(&value));
        let back = restore_text(&hidden, &tree, &value).expect("restored");
        prop_assert_eq!(parse(&back).expect("json5").to_value(), value);
    }
}
