//! What becomes of updates, without a network: facts, joins, order.

use proptest::prelude::*;
use proto::wire::channel::ChatKind;
use serde_json::{Value, json};

use super::convert::{Heard, MentionPatterns, heard};
use super::update::{Update, User};
use super::{config, gather};
use std::time::Duration;

fn me() -> User {
    User { id: 42, is_bot: true, username: Some("claw_bot".into()), ..User::default() }
}

fn hear(message: Value) -> Option<Heard> {
    let update = Update::read(json!({"update_id": 7, "message": message}));
    heard(&update, &me(), &MentionPatterns::new(&[r"\bclawd\b".into(), "(".into()]))
}

fn message(extra: Value) -> Value {
    let mut message = json!({
        "message_id": 5, "date": 100, "chat": {"id": -100, "type": "supergroup", "title": "G"},
        "from": {"id": 8, "is_bot": false, "first_name": "Ann", "last_name": "Lee", "username": "ann"},
    });
    if let (Some(message), Some(extra)) = (message.as_object_mut(), extra.as_object()) {
        message.extend(extra.clone());
    }
    message
}

fn text(text: &str) -> Heard {
    hear(message(json!({ "text": text }))).unwrap()
}

#[test]
fn a_message_becomes_its_facts() {
    let heard = text("plain");
    insta::assert_debug_snapshot!(heard.message);
}

#[test]
fn mentions_are_by_name_link_command_or_pattern() {
    let with = |text: &str, entity: Value| {
        hear(message(json!({"text": text, "entities": [entity]}))).unwrap().message.mentioned
    };
    let at =
        |kind: &str, offset: usize, length: usize| json!({"type": kind, "offset": offset, "length": length});
    assert!(with("😀 @Claw_Bot hi", at("mention", 3, 9)), "offsets count UTF-16 units, names ignore case");
    assert!(!with("@other hi", at("mention", 0, 6)));
    assert!(with("/status@claw_bot", at("bot_command", 0, 16)));
    assert!(!with("/status", at("bot_command", 0, 7)));
    assert!(with("you", json!({"type": "text_mention", "offset": 0, "length": 3, "user": {"id": 42}})));
    assert!(!with("you", json!({"type": "text_mention", "offset": 0, "length": 3, "user": {"id": 43}})));
    assert!(text("hey Cla\u{200b}wd").message.mentioned, "zero-width characters do not hide a name");
    assert!(!text("clawdia").message.mentioned);
    assert!(!with("x", at("mention", 90, 9)), "an entity outside of the text is no reason to fail");
}

#[test]
fn links_are_written_out_and_words_stand_for_content() {
    let link = json!({"type": "text_link", "offset": 5, "length": 4, "url": "https://e.org"});
    let linked = hear(message(json!({"text": "see 😀ok it", "entities": [link]})));
    assert_eq!(linked.unwrap().message.text, "see 😀ok it", "a range inside a pair is left alone");
    let link = json!({"type": "text_link", "offset": 4, "length": 4, "url": "https://e.org"});
    let linked = hear(message(json!({"text": "see here now", "entities": [link]})));
    assert_eq!(linked.unwrap().message.text, "see [here](https://e.org) now");
    let shown = |extra: Value| hear(message(extra)).unwrap().message.text;
    assert_eq!(shown(json!({"location": {"latitude": 1.5, "longitude": 2.0}})), "📍 1.5, 2");
    assert_eq!(shown(json!({"contact": {"phone_number": "+1", "first_name": "Bo"}})), "👤 Bo: +1");
    assert_eq!(shown(json!({"voice": {"file_id": "v"}})), "<media:audio>");
    assert_eq!(shown(json!({"sticker": {"file_id": "s", "emoji": "👍"}})), "<media:sticker> 👍");
}

#[test]
fn of_a_picture_only_the_largest_size_is_taken() {
    let sizes = json!([{"file_id": "small", "width": 90, "height": 90}, {"file_id": "big", "width": 900, "height": 800}, {"file_id": "mid", "width": 320, "height": 320}]);
    let heard = hear(message(json!({"photo": sizes, "caption": "c"}))).unwrap();
    assert_eq!(heard.files.iter().map(|f| f.file_id.as_str()).collect::<Vec<_>>(), ["big"]);
    assert_eq!(heard.message.text, "c");
}

#[test]
fn what_is_not_for_us_is_left_out() {
    assert!(hear(message(json!({"new_chat_members": [{"id": 1}]}))).is_none(), "service messages");
    assert!(hear(message(json!({"text": "x", "from": {"id": 42, "is_bot": true}}))).is_none(), "our own");
    let broken = Update::read(json!({"update_id": 9, "message": {"chat": "nonsense"}}));
    assert!(broken.update_id == 9 && broken.message.is_none());
}

#[test]
fn threads_are_topics_only() {
    let thread = |extra: Value| hear(message(extra)).unwrap().message.chat.thread;
    let group = |forum: bool| json!({"id": -100, "type": "supergroup", "is_forum": forum});
    assert_eq!(thread(json!({"text": "x", "message_thread_id": 9, "chat": group(false)})), None);
    assert_eq!(thread(json!({"text": "x", "message_thread_id": 9, "chat": group(true)})), Some("9".into()));
    assert_eq!(thread(json!({"text": "x", "chat": group(true)})), Some("1".into()));
    let topic = json!({"message_id": 9, "forum_topic_created": {"name": "T"}, "chat": group(true), "from": {"id": 42}});
    let heard = hear(message(
        json!({"text": "x", "message_thread_id": 9, "chat": group(true), "reply_to_message": topic}),
    ));
    let heard = heard.unwrap().message;
    assert!(heard.reply_to.is_none() && !heard.reply_to_bot, "the topic's first message is no reply");
}

#[test]
fn a_button_press_is_a_message() {
    let pressed = json!({"update_id": 7, "callback_query": {
        "id": "q1", "from": {"id": 9, "first_name": "Bo"}, "data": "yes", "message": message(json!({"text": "choose", "from": {"id": 42}})),
    }});
    let heard = heard(&Update::read(pressed), &me(), &MentionPatterns::new(&[])).unwrap();
    assert_eq!((heard.message.text.as_str(), heard.message.sender.id.as_str()), ("callback_data: yes", "9"));
    assert_eq!(heard.callback_id.as_deref(), Some("q1"));
    assert_eq!(heard.message.chat.kind, ChatKind::Group);
}

fn piece(chat: i64, id: i64, length: usize, album: Option<&str>) -> Heard {
    let mut heard = text(&"x".repeat(length.max(1)));
    heard.message.chat.id = chat.to_string();
    heard.message.message_id = id.to_string();
    heard.message.ext_id = format!("{chat}|{id}");
    heard.media_group = album.map(str::to_owned);
    heard
}

#[test]
fn pieces_are_joined_only_when_they_belong_together() {
    let joined = |pieces: Vec<Heard>| -> Vec<(String, usize)> {
        gather::join(pieces).into_iter().map(|h| (h.message.ext_id, h.message.text.len())).collect()
    };
    let long = piece(1, 10, 4096, None);
    assert_eq!(
        joined(vec![long.clone(), piece(2, 3, 5, None), piece(1, 11, 5, None)]),
        [("1|10".into(), 4101), ("2|3".into(), 5)]
    );
    assert_eq!(joined(vec![long.clone(), piece(1, 12, 5, None)]).len(), 2, "an id between them is missing");
    assert_eq!(
        joined(vec![piece(1, 10, 3999, None), piece(1, 11, 5, None)]).len(),
        2,
        "the first is not long"
    );
    let mut late = piece(1, 11, 5, None);
    late.message.ts_ms += 3_000;
    assert_eq!(joined(vec![long.clone(), late]).len(), 2, "too late");
    let mut other = piece(1, 11, 5, None);
    other.message.sender.id = "99".into();
    assert_eq!(joined(vec![long.clone(), other]).len(), 2, "another sender");
    let many: Vec<Heard> = (0..20).map(|n| piece(1, n, 4096, None)).collect();
    assert_eq!(joined(many).iter().map(|(_, length)| *length).collect::<Vec<_>>(), [49_152, 8 * 4096]);

    assert_eq!(gather::wait(&[long]), Some(Duration::from_millis(1_500)));
    assert_eq!(gather::wait(&[piece(1, 1, 5, Some("a"))]), Some(Duration::from_millis(500)));
    assert_eq!(gather::wait(&[piece(1, 1, 4096, None), piece(1, 2, 5, None)]), None, "complete");
}

proptest! {
    #[test]
    fn joining_loses_nothing_and_keeps_order(pieces in proptest::collection::vec((0i64..3, prop_oneof![Just(5usize), Just(4096)], any::<bool>()), 0..30)) {
        let pieces: Vec<Heard> = pieces.iter().enumerate()
            .map(|(id, (chat, length, album))| piece(*chat, id as i64, *length, album.then_some("a")))
            .collect();
        let characters = |list: &[Heard], chat: &str| list.iter().filter(|h| h.message.chat.id == chat).map(|h| h.message.text.replace('\n', "").len()).sum::<usize>();
        let joined = gather::join(pieces.clone());
        for chat in ["0", "1", "2"] {
            prop_assert_eq!(characters(&joined, chat), characters(&pieces, chat));
        }
        let ids: Vec<i64> = joined.iter().map(|h| h.message.message_id.parse().unwrap()).collect();
        prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }
}

#[test]
fn the_schema_says_what_is_secret_and_what_a_change_costs() {
    insta::assert_json_snapshot!(config::schema());
}

#[test]
fn wrong_values_are_named_with_a_remedy() {
    let issues = config::check(&json!({
        "botToken": "no colon", "mediaMaxMb": 0, "customCommands": [{"command": "Bad Name", "description": "d"}],
        "accounts": {"work": {"replyToMode": "sometimes"}},
    }));
    insta::assert_debug_snapshot!(issues);
    let fine = json!({"botToken": "1:a_b-C", "apiRoot": "http://127.0.0.1:8081/", "dmPolicy": "open", "textChunkLimit": 0});
    assert!(config::check(&fine).is_empty());
    let hidden = json!({"botToken": "__OPENCLAW_REDACTED__"});
    assert!(config::check(&hidden).is_empty(), "who asks does not show secrets");
}
