//! A transcript cut down to its newest lines: the lines are copied as they are, except that the first one becomes the
//! root of the branch. The only place that makes a new file out of an old one.

use std::fs::File;
use std::path::Path;

use serde_json::Value;

use super::disk;

/// Header and the newest `wanted` entries of the branch as a new file, with their count; None when there are not more
/// than that, or the file cannot be read.
pub fn newest(path: &Path, wanted: usize) -> Option<(Vec<u8>, usize)> {
    let file = File::open(path).ok()?;
    let mut header = None;
    let mut lines: Vec<(Value, Vec<u8>)> = Vec::new();
    disk::scan_lines(&file, |line| {
        let Ok(value) = serde_json::from_slice::<Value>(line.bytes) else { return };
        if value.get("type").and_then(Value::as_str) == Some("session") {
            header.get_or_insert_with(|| line.bytes.to_vec());
        } else {
            lines.push((value, line.bytes.to_vec()));
        }
    })
    .ok()?;
    let branch = branch(&lines);
    if branch.len() <= wanted {
        return None;
    }
    let mut from = branch.len() - wanted;
    // A tool result without its call is of no use to anybody.
    while branch.get(from).is_some_and(|(value, _)| is_tool_result(value)) {
        from += 1;
    }
    let mut out = header?;
    out.push(b'\n');
    let kept = branch.get(from..)?;
    for (at, (value, bytes)) in kept.iter().enumerate() {
        if at == 0 {
            let mut root = (*value).clone();
            root.as_object_mut()?.insert("parentId".into(), Value::Null);
            out.extend_from_slice(root.to_string().as_bytes());
        } else {
            out.extend_from_slice(bytes);
        }
        out.push(b'\n');
    }
    Some((out, kept.len()))
}

fn branch(lines: &[(Value, Vec<u8>)]) -> Vec<&(Value, Vec<u8>)> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut wanted = lines.last().and_then(|(value, _)| text(value, "id"));
    let mut branch = Vec::new();
    for line in lines.iter().rev() {
        if wanted.is_some() && text(&line.0, "id") == wanted {
            wanted = text(&line.0, "parentId");
            branch.push(line);
        }
    }
    branch.reverse();
    branch
}

fn is_tool_result(value: &Value) -> bool {
    value.pointer("/message/role").and_then(Value::as_str) == Some("toolResult")
}
