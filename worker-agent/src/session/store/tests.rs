use super::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

fn entry(id: &str, updated: i64) -> SessionEntry {
    SessionEntry(json!({"sessionId": id, "updatedAt": updated}).as_object().unwrap().clone())
}

#[test]
fn unknown_fields_and_order_survive_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.json");
    let text =
        json!({"agent:main:main": {"sessionId": "a", "updatedAt": 5, "somethingNew": {"z": 1, "a": [2]}}});
    fs::write(&path, serde_json::to_vec(&text).unwrap()).unwrap();
    let mut store = SessionStore::load(dir.path(), 9).unwrap();
    store.put("agent:main:other", entry("b", 6));
    StoreFile::new(dir.path()).reach(1, || store.image()).unwrap();
    let written = fs::read_to_string(&path).unwrap();
    insta::assert_snapshot!(written);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|file| file.file_name()).collect();
    assert_eq!(left, ["sessions.json"], "no temporary file stays");
}

#[test]
fn case_variants_become_one_and_old_names_are_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let text = json!({
        "Agent:Main:Main": {"sessionId": "old", "updatedAt": 1},
        "agent:main:main": {"sessionId": "new", "updatedAt": 2, "lastProvider": "telegram", "room": "r"},
    });
    fs::write(dir.path().join("sessions.json"), text.to_string()).unwrap();
    let store = SessionStore::load(dir.path(), 9).unwrap();
    assert_eq!(store.entries().count(), 1);
    let held = store.get("agent:main:main").unwrap();
    assert_eq!(
        (held.session_id(), held.str("lastChannel"), held.str("groupChannel")),
        (Some("new"), Some("telegram"), Some("r"))
    );
}

#[test]
fn an_unreadable_store_is_kept_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("sessions.json"), "{\"agent:main:main\":{\"sess").unwrap();
    fs::write(dir.path().join("x.jsonl"), Header::new("sid-1", "/w", 0).to_line()).unwrap();
    let store = SessionStore::load(dir.path(), 9).unwrap();
    assert_eq!(store.get("recovered:sid-1").unwrap().session_id(), Some("sid-1"));
    assert!(dir.path().join("sessions.json.corrupt-9").exists());
    assert_eq!(store.notes.len(), 1);
}

#[test]
fn a_write_that_fails_is_told_and_the_next_one_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = dir.path().join("sessions");
    fs::create_dir(&sessions).unwrap();
    let mut store = SessionStore::load(&sessions, 9).unwrap();
    let mut file = StoreFile::new(&sessions);
    fs::remove_dir(&sessions).unwrap();
    let first = store.put("a", entry("1", 1));
    assert!(file.reach(first, || store.image()).is_err());
    fs::create_dir(&sessions).unwrap();
    let second = store.put("b", entry("2", 2));
    file.reach(second, || store.image()).unwrap();
    assert_eq!(SessionStore::load(&sessions, 9).unwrap().entries().count(), 2);
}

#[test]
fn one_write_serves_all_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SessionStore::load(dir.path(), 9).unwrap();
    let mut file = StoreFile::new(dir.path());
    let generations: Vec<u64> = ["a", "b", "c"].iter().map(|key| store.put(key, entry(key, 1))).collect();
    file.reach(generations[0], || store.image()).unwrap();
    for later in &generations[1..] {
        file.reach(*later, || panic!("written before")).unwrap();
    }
    let (_, generation) = store.remove("a").unwrap();
    file.reach(generation, || store.image()).unwrap();
    assert!(SessionStore::load(dir.path(), 9).unwrap().get("a").is_none());
}
