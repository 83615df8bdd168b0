//! Log lines that an operator waits for, by name. A line names its kind in the field [`FIELD`]; in systemd's journal it is
//! found by `journalctl MESSAGE_ID=…`.

use uuid::Uuid;

/// Field of a log line that names its kind.
pub const FIELD: &str = "event";
/// Of all ids below (a random UUID, fixed for ever).
const NAMESPACE: Uuid = Uuid::from_u128(0x6d1f_0c52_8a43_4e0b_9f57_3b6e_21c4_d870);

/// The kinds. The ids follow from the names: a name is never changed.
pub const ALL: [&str; 10] = [
    "worker.crash",
    "worker.quarantine",
    "worker.needsLogin",
    "config.invalid",
    "config.rolledBack",
    "upgrade.done",
    "upgrade.failed",
    "journal.readonly",
    "isolation.downgrade",
    "message.poison",
];

/// The id of a kind, 32 digits; `None` for a name that is no kind.
pub fn message_id(event: &str) -> Option<String> {
    ALL.contains(&event).then(|| Uuid::new_v5(&NAMESPACE, event.as_bytes()).simple().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_change() {
        let ids: Vec<_> = ALL.iter().map(|name| format!("{name} {}", message_id(name).unwrap())).collect();
        insta::assert_snapshot!(ids.join("\n"));
        assert_eq!(message_id("something"), None);
    }
}
