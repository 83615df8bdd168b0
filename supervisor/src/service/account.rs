//! Accounts of this host, by `/etc/passwd`: enough for local ones, which services run as.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PASSWD: &str = "/etc/passwd";

/// Id and name of who runs this; the id stands in for a name that is not known.
pub fn own() -> (u32, String) {
    let uid = rustix::process::geteuid().as_raw();
    (uid, name_of(uid).unwrap_or_else(|| uid.to_string()))
}

/// Name of an account.
pub fn name_of(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string(PASSWD).unwrap_or_default();
    entries(&text).find(|entry| entry.uid == uid).map(|entry| entry.name.to_owned())
}

/// For people: whose `path` is, who this is, and what to do when the two differ. Walks up to the first folder that can be
/// looked at. `None`: it belongs to this user.
pub fn stranger_at(path: &Path) -> Option<String> {
    let owner = path.ancestors().find_map(|place| Some((place, std::fs::metadata(place).ok()?.uid())));
    let (place, owner) = owner?;
    let (own, own_name) = own();
    if owner == own {
        return None;
    }
    let (whose, run_as) = match name_of(owner) {
        Some(name) => (format!("{name} (uid {owner})"), format!("sudo -u {name} openclaw …")),
        None => (format!("uid {owner}"), format!("sudo -u '#{owner}' openclaw …")),
    };
    Some(format!(
        "{} belongs to {whose}, and this is {own_name} (uid {own}): run the command as its owner, for example `{run_as}`, or name a state directory of your own with OPENCLAW_STATE_DIR",
        place.display()
    ))
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
    fn a_place_of_somebody_else_is_told_with_both_names() {
        let own = tempfile::tempdir().unwrap();
        assert_eq!(stranger_at(&own.path().join("not/there")), None);
        let place = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(own.path(), Some(4242), None).unwrap();
            own.path()
        } else {
            Path::new("/etc")
        };
        let told = stranger_at(&place.join("run/control.sock")).unwrap();
        let (uid, name) = super::own();
        assert!(told.contains(&format!("this is {name} (uid {uid})")) && told.contains("sudo -u"), "{told}");
    }

    #[test]
    fn malformed_lines_are_passed_over() {
        let text = "root:x:0:0:root:/root:/bin/sh\n+nis\nbad:x:y:\nopenclaw:x:998:998::/var/lib/openclaw:/bin/false\n";
        let found: Vec<_> = entries(text).map(|entry| (entry.name, entry.uid)).collect();
        assert_eq!(found, [("root", 0), ("openclaw", 998)]);
    }
}
