//! Keys of earlier releases: recognised, moved in memory to where they live now, and reported. The file itself is
//! changed only by `doctor --fix`.

use super::issue::Issue;
use super::syntax::{Kind, Member, Node};
use std::path::PathBuf;

/// Old path, new path. A move happens only when the new place is free; else the old key is dropped with its message.
const MOVES: [(&str, &str); 18] = [
    ("whatsapp", "channels.whatsapp"),
    ("telegram", "channels.telegram"),
    ("discord", "channels.discord"),
    ("slack", "channels.slack"),
    ("signal", "channels.signal"),
    ("imessage", "channels.imessage"),
    ("msteams", "channels.msteams"),
    ("routing.bindings", "bindings"),
    ("routing.agentToAgent", "tools.agentToAgent"),
    ("routing.queue", "messages.queue"),
    ("routing.groupChat.mentionPatterns", "messages.groupChat.mentionPatterns"),
    ("routing.groupChat.historyLimit", "messages.groupChat.historyLimit"),
    ("routing.transcribeAudio", "audio.transcription"),
    ("routing.allowFrom", "channels.whatsapp.allowFrom"),
    ("agent", "agents.defaults"),
    ("gateway.token", "gateway.auth.token"),
    ("tools.bash", "tools.exec"),
    ("browser.ssrfPolicy.allowPrivateNetwork", "browser.ssrfPolicy.dangerouslyAllowPrivateNetwork"),
];

/// Moves what is old; the result says what was moved or renamed.
pub fn migrate(root: &mut Node, files: &[PathBuf]) -> Vec<Issue> {
    let mut found = Vec::new();
    for (old, new) in &MOVES {
        let old_parts: Vec<&str> = old.split('.').collect();
        let Some(member) = take(root, &old_parts) else { continue };
        let at = member.at;
        let new_parts: Vec<&str> = new.split('.').collect();
        let moved = put(root, &new_parts, member);
        let message = if moved {
            format!(
                "{old} was moved; use {new} instead (read as such; `openclaw doctor --fix` rewrites the file)."
            )
        } else {
            format!("{old} was moved; use {new} instead (ignored: {new} is set too).")
        };
        found.push(Issue::new(*old, message).at(at, files));
    }
    drop_if_empty(root, "routing");
    rename_account_ids(root, files, &mut found);
    found
}

/// Takes a member out of the tree.
fn take(node: &mut Node, path: &[&str]) -> Option<Member> {
    let (key, rest) = path.split_first()?;
    let Kind::Object(members) = &mut node.kind else { return None };
    let index = members.iter().rposition(|member| member.key == **key)?;
    if rest.is_empty() {
        return Some(members.remove(index));
    }
    let value = &mut members.get_mut(index)?.value;
    let taken = take(value, rest)?;
    if matches!(&value.kind, Kind::Object(left) if left.is_empty()) {
        members.remove(index);
    }
    Some(taken)
}

/// Puts a member at a path; objects are joined, anything else never overwrites.
fn put(node: &mut Node, path: &[&str], moved: Member) -> bool {
    let Some((key, rest)) = path.split_first() else { return false };
    let Kind::Object(members) = &mut node.kind else { return false };
    let index = members.iter().rposition(|member| member.key == **key);
    match (index.and_then(|index| members.get_mut(index)), rest.is_empty()) {
        (Some(member), false) => put(&mut member.value, rest, moved),
        (Some(member), true) => join(&mut member.value, moved.value),
        (None, true) => {
            members.push(Member { key: (*key).to_owned(), ..moved });
            true
        }
        (None, false) => {
            let at = moved.at;
            let mut value = Node { at, span: 0..0, kind: Kind::Object(Vec::new()) };
            let done = put(&mut value, rest, moved);
            members.push(Member { key: (*key).to_owned(), at, key_span: 0..0, value });
            done
        }
    }
}

fn join(present: &mut Node, moved: Node) -> bool {
    let (Kind::Object(known), Kind::Object(more)) = (&mut present.kind, moved.kind) else { return false };
    for member in more {
        if !known.iter().any(|old| old.key == member.key) {
            known.push(member);
        }
    }
    true
}

fn drop_if_empty(root: &mut Node, key: &str) {
    if let Kind::Object(members) = &mut root.kind {
        members.retain(|m| m.key != key || !matches!(&m.value.kind, Kind::Object(left) if left.is_empty()));
    }
}

/// `bindings[].match.accountID` is `accountId`.
fn rename_account_ids(root: &mut Node, files: &[PathBuf], found: &mut Vec<Issue>) {
    let Kind::Object(members) = &mut root.kind else { return };
    let Some(bindings) = members.iter_mut().find(|member| member.key == "bindings") else { return };
    let Kind::List(items) = &mut bindings.value.kind else { return };
    for (index, item) in items.iter_mut().enumerate() {
        let Kind::Object(row) = &mut item.kind else { continue };
        let Some(rule) = row.iter_mut().find(|member| member.key == "match") else { continue };
        let Kind::Object(keys) = &mut rule.value.kind else { continue };
        for member in keys.iter_mut().filter(|member| member.key == "accountID") {
            "accountId".clone_into(&mut member.key);
            let path = format!("bindings.{index}.match.accountID");
            found
                .push(Issue::new(path, "accountID was renamed; use accountId instead.").at(member.at, files));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::syntax::parse;
    use serde_json::json;

    #[test]
    fn old_keys_are_read_in_their_new_place() {
        let text = "{telegram:{botToken:'t'}, routing:{queue:{cap:5}, bindings:[{agentId:'a',match:{channel:'x',accountID:'w'}}]},
            gateway:{token:'g', auth:{mode:'token'}}, agent:{workspace:'/w'}, agents:{defaults:{workspace:'/kept'}}}";
        let mut tree = parse(text).expect("json5");
        let found = migrate(&mut tree, &[]);
        assert_eq!(
            tree.to_value(),
            json!({"gateway": {"auth": {"mode": "token", "token": "g"}}, "agents": {"defaults": {"workspace": "/kept"}},
                "channels": {"telegram": {"botToken": "t"}},
                "bindings": [{"agentId": "a", "match": {"channel": "x", "accountId": "w"}}],
                "messages": {"queue": {"cap": 5}}})
        );
        let paths: Vec<&str> = found.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "telegram",
                "routing.bindings",
                "routing.queue",
                "agent",
                "gateway.token",
                "bindings.0.match.accountID"
            ]
        );
        let mut again = tree.clone();
        assert_eq!(migrate(&mut again, &[]), []);
        assert_eq!(again, tree);
    }
}
