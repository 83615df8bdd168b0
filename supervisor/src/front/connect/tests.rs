use super::*;
use proptest::prelude::*;
use serde_json::json;

fn minimal() -> Value {
    json!({ "minProtocol": 3, "maxProtocol": 3,
        "client": { "id": "cli", "mode": "cli", "version": "1", "platform": "linux" } })
}

#[test]
fn unknown_keys_and_scopes_are_kept_out_of_the_way() {
    let mut params = minimal();
    params["modelCatalog"] = json!({ "sessionKey": "x" });
    params["scopes"] = json!(["operator.read", "new.scope"]);
    params["auth"] = json!({ "token": "t", "approvalRuntimeToken": "x" });
    let read = read(&params).unwrap();
    assert_eq!(read.scopes, ["operator.read", "new.scope"]);
    assert_eq!(read.signed_fields().token, "t");
    assert_eq!(read.signed_fields().role, "operator");
}

#[test]
fn refusals_name_every_fault() {
    let mut cases =
        vec![json!(null), json!({}), json!({ "minProtocol": "3", "maxProtocol": 0, "client": 1 })];
    let mut bad = minimal();
    bad["client"]["id"] = json!("my-client");
    bad["client"]["mode"] = json!("operator");
    bad["client"]["version"] = json!("");
    cases.push(bad);
    let mut device = minimal();
    device["device"] = json!({ "id": "x", "publicKey": "y", "signature": "z", "signedAt": 1.5 });
    device["scopes"] = json!("operator.read");
    cases.push(device);
    let texts: Vec<String> =
        cases.iter().map(|c| read(c).err().map(|e| e.message).unwrap_or_default()).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn negotiation_takes_the_highest_common_protocol() {
    for (min, max, want) in
        [(3, 3, Some(3)), (4, 4, Some(4)), (3, 4, Some(4)), (1, 9, Some(4)), (5, 6, None), (1, 2, None)]
    {
        let connect = ConnectParams { min_protocol: min, max_protocol: max, ..ConnectParams::default() };
        assert_eq!(connect.negotiate(), want, "{min}..{max}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,80}") {
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let _ = read(&value);
        let _ = read(&json!({ "client": value }));
    }
}
