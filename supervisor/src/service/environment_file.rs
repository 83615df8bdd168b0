//! Variables of the service that must not stand in its unit: tokens, and proxies with a password in them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Taken over from the shell that installs the service, when the service would not have them otherwise.
pub const TAKEN_OVER: [&str; 8] = [
    "OPENCLAW_GATEWAY_TOKEN",
    "OPENCLAW_GATEWAY_PASSWORD",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Adds these to the file, which it makes when it is not there (0600). Lines of others stay as they are.
///
/// # Errors
/// The file cannot be read or written; a value has a line break in it.
pub fn add(path: &Path, new: &BTreeMap<String, String>) -> io::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    if let Some(name) = new.iter().find(|(_, value)| value.contains(['\n', '\r'])).map(|(name, _)| name) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} has a line break in it")));
    }
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let temporary = path.with_extension("env.new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(merged(&before, new).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// Lines whose name is set anew are replaced, the others stay.
fn merged(before: &str, new: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let stays = |line: &&str| line.split_once('=').is_none_or(|(name, _)| !new.contains_key(name.trim()));
    for line in before.lines().filter(stays) {
        out.push_str(line);
        out.push('\n');
    }
    for (name, value) in new {
        out.push_str(&format!("{name}=\"{}\"\n", value.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    out
}

/// The variables of such a file, as systemd reads it: `#` and `;` begin a comment; in double quotes a backslash hides
/// what follows it where that has a meaning there, in single quotes nothing has. Texts over several lines are not read.
pub fn parse(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let value = value.trim_start();
    let (mut out, mut quote, mut chars) = (String::new(), None, value.chars());
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => out.push(c),
            (Some(_), '\\') => match chars.next() {
                Some(hidden @ ('"' | '\\' | '`' | '$')) => out.push(hidden),
                Some(other) => out.extend(['\\', other]),
                None => {}
            },
            (None, '\\') => out.extend(chars.next()),
            (_, c) => out.push(c),
        }
    }
    Some((name.to_owned(), out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_are_for_the_owner_and_foreign_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/service.env");
        let new = |value: &str| [("OPENCLAW_GATEWAY_TOKEN".to_owned(), value.to_owned())].into();
        add(&path, &new("one")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# mine\nA=1\n{text}")).unwrap();
        add(&path, &new("t\"w")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "# mine\nA=1\nOPENCLAW_GATEWAY_TOKEN=\"t\\\"w\"\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(add(&path, &new("a\nb")).is_err());
    }

    #[test]
    fn what_was_written_is_read_back() {
        let value = r#"a \ "b" $c 'd' #e ;f"#;
        let new = [("A".to_owned(), value.to_owned()), ("B".to_owned(), String::new())].into();
        let text = format!("# C=1\n;D=1\nbad line\nE = plain\\ \\x\nF='r\\aw' tail\n{}", merged("", &new));
        let read: Vec<_> = parse(&text);
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, [("E", "plain x"), ("F", r"r\aw tail"), ("A", value), ("B", "")]);
    }
}
