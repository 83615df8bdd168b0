use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// 2026-11-22T11:06:40Z.
const NOW: i64 = 1_795_345_600_000;

fn store() -> (TempDir, PairingStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = PairingStore::new(&dir.path().join("credentials"));
    (dir, store)
}

fn knock(store: &PairingStore, account: &str, sender: &str, now_ms: i64) -> Knock {
    store.knock("telegram", account, sender, BTreeMap::new(), now_ms).unwrap()
}

fn code_of(knock: Knock) -> String {
    match knock {
        Knock::Created { code } => code,
        other => panic!("{other:?}"),
    }
}

fn file(store: &PairingStore, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(store.dir.join(name)).unwrap()).unwrap()
}

#[test]
fn codes_are_readable_and_differ() {
    let codes: BTreeSet<String> = (0..200).map(|_| new_code().unwrap()).collect();
    assert_eq!(codes.len(), 200);
    for code in codes {
        assert_eq!(code.len(), 8);
        assert!(code.bytes().all(|b| CODE_ALPHABET.contains(&b)), "{code}");
    }
}

#[test]
fn a_stranger_is_challenged_once() {
    let (_dir, store) = store();
    let code = code_of(knock(&store, "", "1", NOW));
    assert_eq!(knock(&store, "default", "1", NOW + 60_000), Knock::Known { code: code.clone() });
    let written = file(&store, "telegram-pairing.json");
    assert_eq!(
        written,
        json!({ "version": 1, "requests": [{
            "id": "1", "code": code, "createdAt": "2026-11-22T11:06:40.000Z",
            "lastSeenAt": "2026-11-22T11:07:40.000Z", "meta": { "accountId": "default" },
        }] })
    );
    let again = code_of(knock(&store, "", "1", NOW + CODE_TTL_MS + 1));
    assert_ne!(again, code, "an old code is forgotten");
}

#[test]
fn the_message_that_asked_is_still_owed_its_answer_when_it_comes_again() {
    let (_dir, store) = store();
    let by = |message: &str| {
        let meta = BTreeMap::from([(MESSAGE.to_owned(), message.to_owned())]);
        store.knock("telegram", "", "1", meta, NOW).unwrap()
    };
    let code = code_of(by("700"));
    assert_eq!(code_of(by("700")), code);
    assert_eq!(by("701"), Knock::Known { code: code.clone() });
    assert_eq!(code_of(by("700")), code, "a later message does not take its place");
}

#[test]
fn three_may_wait_per_account() {
    let (_dir, store) = store();
    for sender in ["1", "2", "3"] {
        code_of(knock(&store, "", sender, NOW));
    }
    assert_eq!(knock(&store, "", "4", NOW), Knock::Full);
    assert!(matches!(knock(&store, "", "2", NOW), Knock::Known { .. }));
    code_of(knock(&store, "second", "4", NOW));
    assert_eq!(store.pending("telegram", Some(""), NOW).unwrap().len(), 3);
    assert_eq!(store.pending("telegram", None, NOW).unwrap().len(), 4);
    assert!(store.pending("telegram", None, NOW + CODE_TTL_MS + 1).unwrap().is_empty());
    code_of(knock(&store, "", "4", NOW + CODE_TTL_MS + 1));
}

#[test]
fn approving_moves_to_the_allow_list() {
    let (_dir, store) = store();
    let code = code_of(knock(&store, "", "1", NOW));
    let other = code_of(knock(&store, "second", "2", NOW));
    assert_eq!(store.approve("telegram", "WRONG", None, NOW).unwrap(), None);
    assert_eq!(store.approve("telegram", "", None, NOW).unwrap(), None);
    assert_eq!(store.approve("telegram", &code, Some("second"), NOW).unwrap(), None, "of another account");
    let approved =
        store.approve("telegram", &format!(" {} ", code.to_lowercase()), None, NOW).unwrap().unwrap();
    assert_eq!((approved.id.as_str(), approved.account.as_str()), ("1", "default"));
    assert_eq!(store.approve("telegram", &code, None, NOW).unwrap(), None, "once");
    assert_eq!(file(&store, "telegram-allowFrom.json"), json!({ "version": 1, "allowFrom": ["1"] }));
    assert_eq!(store.approve("telegram", &other, None, NOW + CODE_TTL_MS + 1).unwrap(), None, "too late");
    let other = code_of(knock(&store, "second", "2", NOW + CODE_TTL_MS + 1));
    store.approve("telegram", &other, None, NOW + CODE_TTL_MS + 1).unwrap().unwrap();
    assert_eq!(store.allowed("telegram", "second").unwrap(), ["2"]);
    assert_eq!(store.allowed("telegram", "").unwrap(), ["1"], "accounts do not share approvals");
    assert!(store.revoke("telegram", "", "1").unwrap());
    assert!(!store.revoke("telegram", "", "1").unwrap());
    assert!(store.allowed("telegram", "").unwrap().is_empty());
}

#[test]
fn files_of_the_original_are_read() {
    let (_dir, store) = store();
    std::fs::create_dir_all(&store.dir).unwrap();
    let write = |name: &str, value: Value| std::fs::write(store.dir.join(name), value.to_string()).unwrap();
    write("telegram-allowFrom.json", json!({ "version": 1, "allowFrom": ["1", 2, " 1 ", "*", ""] }));
    write("telegram-default-allowFrom.json", json!({ "version": 1, "allowFrom": ["3", "1"] }));
    assert_eq!(store.allowed("telegram", "default").unwrap(), ["1", "2", "3"]);
    assert!(store.revoke("telegram", "default", "1").unwrap(), "from both files");
    assert_eq!(store.allowed("telegram", "default").unwrap(), ["2", "3"]);
    let request = |id: &str, created: &str| {
        json!({ "id": id, "code": format!("CODE{id}"), "createdAt": created, "lastSeenAt": created,
            "meta": { "accountId": "default", "firstName": "A" }, "extra": true })
    };
    let entries = json!([request("8", "2026-11-22T11:00:00.000Z"), request("9", "yesterday"), 5]);
    write("telegram-pairing.json", json!({ "version": 1, "requests": entries }));
    assert_eq!(store.pending("telegram", None, NOW).unwrap().len(), 1);
    knock(&store, "", "10", NOW);
    let kept = &file(&store, "telegram-pairing.json")["requests"][0];
    assert_eq!((&kept["extra"], &kept["meta"]["firstName"]), (&json!(true), &json!("A")));
}

#[test]
fn a_broken_file_is_named_and_left_alone() {
    let (_dir, store) = store();
    std::fs::create_dir_all(&store.dir).unwrap();
    let path = store.dir.join("telegram-allowFrom.json");
    std::fs::write(&path, "{").unwrap();
    let error = store.allowed("telegram", "").unwrap_err().to_string();
    assert!(error.contains("telegram-allowFrom.json") && error.contains("repair"), "{error}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "{");
}

#[test]
fn names_stay_in_their_directory() {
    let (_dir, store) = store();
    assert!(matches!(store.allowed("", ""), Err(PairingError::BadName(_))));
    assert!(matches!(store.allowed("..", ""), Err(PairingError::BadName(_))));
    assert!(matches!(store.allowed(".hidden", ""), Err(PairingError::BadName(_))));
    assert_eq!(file_part("../../Etc/x").unwrap(), "____etc_x");
    assert_eq!(file_part("My Account").unwrap(), "my account");
    code_of(store.knock("telegram", "../x", "1", BTreeMap::new(), NOW).unwrap());
    let names: Vec<_> = std::fs::read_dir(store.dir.parent().unwrap()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "nothing beside the directory");
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, store) = store();
    knock(&store, "", "1", NOW);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.dir), 0o700);
    assert_eq!(mode(&store.dir.join("telegram-pairing.json")), 0o600);
}

#[test]
fn many_at_once_keep_the_file_whole() {
    let (_dir, store) = store();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            std::thread::spawn(move || code_of(knock(&store, &format!("account {n}"), "1", NOW)))
        })
        .collect();
    let codes: BTreeSet<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(codes.len(), 8);
    assert_eq!(store.pending("telegram", None, NOW).unwrap().len(), 8);
}

#[test]
fn texts() {
    assert_eq!(
        challenge_text("telegram", &id_line("Telegram", "42"), "ABCD2345"),
        "OpenClaw: access not configured.\n\nYour Telegram user id: 42\n\nPairing code: ABCD2345\n\nAsk the bot owner to approve with:\nopenclaw pairing approve telegram ABCD2345"
    );
    assert_eq!(id_line("WhatsApp", "+49151"), "Your WhatsApp phone number: +49151");
}
