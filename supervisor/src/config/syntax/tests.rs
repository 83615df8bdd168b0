use super::*;
use proptest::prelude::*;
use serde_json::json;

fn error(text: &str) -> String {
    parse(text).expect_err("must be refused").to_string()
}

#[test]
fn reads_everything_that_json5_allows() {
    let text = "\u{feff}// head\n{ a: 1, 'b': \"x\\\ny\\u00e9\\x41\", /* c */ $d_1: [1, .5, 5., +3, -0x10, 1e3,], e: null, 'f g': true, }";
    let value = parse(text).expect("valid").to_value();
    assert_eq!(
        value,
        json!({"a": 1, "b": "xy\u{e9}A", "$d_1": [1, 0.5, 5, 3, -16, 1000], "e": null, "f g": true})
    );
}

#[test]
fn remembers_where_keys_and_values_stand() {
    let text = "{\n  gateway: {\n    \"port\": \"x\",\n  },\n}";
    let tree = parse(text).expect("valid");
    let port = tree.get("gateway").and_then(|node| node.member("port")).expect("port");
    assert_eq!((port.at.line, port.at.column), (3, 5));
    assert_eq!(&text[port.key_span.clone()], "\"port\"");
    assert_eq!(&text[port.value.span.clone()], "\"x\"");
}

#[test]
fn error_texts_are_those_people_know() {
    let rows = [
        ("{bad json", "JSON5: invalid character 'j' at 1:6"),
        ("", "JSON5: invalid end of input at 1:1"),
        ("{a:1", "JSON5: invalid end of input at 1:5"),
        ("{\n a: 'x\n'}", "JSON5: invalid character '\\n' at 2:7"),
        ("{a:1} x", "JSON5: invalid character 'x' at 1:7"),
        ("{a:tru}", "JSON5: invalid character '}' at 1:7"),
        ("[1,,2]", "JSON5: invalid character ',' at 1:4"),
        ("{a:012}", "JSON5: invalid character '1' at 1:5"),
        ("{a:NaN}", "JSON5: number that JSON cannot hold at 1:4"),
        ("/* open", "JSON5: invalid end of input at 1:8"),
        ("{\"a\":\"\\1\"}", "JSON5: invalid character '1' at 1:8"),
    ];
    for (text, wanted) in rows {
        assert_eq!(error(text), wanted, "{text:?}");
    }
    assert!(error(&"[".repeat(200)).contains("nesting deeper than 100 levels"));
}

#[test]
fn the_later_of_two_equal_keys_wins() {
    let tree = parse("{a:1,a:2}").expect("valid");
    assert_eq!(tree.to_value(), json!({"a": 2}));
    assert_eq!(tree.get("a").map(Node::to_value), Some(json!(2)));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9f64..1e9).prop_filter("fraction", |n| n.fract() != 0.0).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((".{0,8}", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_json_writes_is_read_back(value in any_json()) {
        let text = serde_json::to_string_pretty(&value).expect("json");
        prop_assert_eq!(parse(&text).expect("json is json5").to_value(), value);
    }

    #[test]
    fn agrees_with_another_reader_and_never_panics(text in "[\\[\\]{}:,'\"a1 .\\\\/*\n+-]{0,24}") {
        let ours = parse(&text).ok().map(|tree| tree.to_value());
        let other: Option<Value> = json5::from_str(&text).ok();
        if let (Some(ours), Some(other)) = (&ours, &other) {
            prop_assert_eq!(ours.to_string().replace(".0", ""), other.to_string().replace(".0", ""));
        }
    }
}
