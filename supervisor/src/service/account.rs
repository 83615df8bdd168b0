//! Accounts of this host, by `/etc/passwd`: enough for local ones, which services run as.

const PASSWD: &str = "/etc/passwd";

/// Id and name of who runs this; the id stands in for a name that is not known.
pub fn own() -> (u32, String) {
    let uid = rustix::process::geteuid().as_raw();
    let text = std::fs::read_to_string(PASSWD).unwrap_or_default();
    let name = entries(&text).find(|entry| entry.uid == uid).map(|entry| entry.name.to_owned());
    (uid, name.unwrap_or_else(|| uid.to_string()))
}

/// Whether an account of this name exists.
pub fn exists(name: &str) -> bool {
    let text = std::fs::read_to_string(PASSWD).unwrap_or_default();
    entries(&text).any(|entry| entry.name == name)
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
}

fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Entry { name, uid: uid.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_lines_are_passed_over() {
        let text = "root:x:0:0:root:/root:/bin/sh\n+nis\nbad:x:y:\nopenclaw:x:998:998::/var/lib/openclaw:/bin/false\n";
        let found: Vec<_> = entries(text).map(|entry| (entry.name, entry.uid)).collect();
        assert_eq!(found, [("root", 0), ("openclaw", 998)]);
    }
}
