use super::place::Place;
use super::*;
use crate::upgrade::preflight::Answer;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Three files whose content is their name and `mark`, with their sums.
fn release(mark: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), mark);
    dir
}

fn write(dir: &Path, mark: &str) {
    let mut sums = String::new();
    for name in NAMES {
        let content = format!("{name} {mark}");
        fs::write(dir.join(name), &content).unwrap();
        sums.push_str(&format!("{} *{name}\n", sum(content.as_bytes())));
    }
    fs::write(dir.join(SUMS), sums).unwrap();
}

fn installed() -> (TempDir, Place) {
    let dir = release("old");
    fs::remove_file(dir.path().join(SUMS)).unwrap();
    let place = Place::of(&dir.path().join(NAMES[0]));
    (dir, place)
}

fn yes(_: &Path) -> Result<Answer, String> {
    Ok(Answer { ok: true, build: "9.9.9".to_owned(), ..Answer::default() })
}

fn wish(from: &Path) -> Wish {
    Wish { origin: Origin::Path(from.to_owned()), checksum: true, dry_run: false, within: COMMAND_WITHIN }
}

/// Names below the install dir that an update made.
fn made(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.dir.join("versions")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_release_is_installed_beside_the_old_one_and_can_be_gone_back_to() {
    let (dir, place) = installed();
    let outcome = run(&place, &wish(release("new").path()), &yes);
    assert_eq!((outcome.status, outcome.reason), (Status::Ok, None), "{outcome:?}");
    let new = outcome.installed.unwrap();
    let of_build = |build: &str| {
        let name = made(&place).into_iter().find(|name| name.starts_with(build)).unwrap();
        dir.path().join("versions").join(name)
    };
    let old = of_build(env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (new.clone(), fs::read(old.join("openclaw-agent")).unwrap()),
        (of_build("9.9.9"), b"openclaw-agent old".into())
    );
    let read = || fs::read_to_string(dir.path().join("openclaw")).unwrap();
    assert_eq!(read(), "openclaw old", "not in use yet");
    place.point_at(&new).unwrap();
    assert_eq!(
        (read().as_str(), place.usual()),
        ("openclaw new", new.join("openclaw").canonicalize().unwrap())
    );
    assert_eq!(Place::lasting(&place.usual()), dir.path().canonicalize().unwrap().join("openclaw"));
    assert_eq!(fs::metadata(new.join("openclaw-agent")).unwrap().permissions().mode() & 0o777, 0o755);
    let place = Place::of(&new.join("openclaw"));
    assert_eq!(place.dir, dir.path());
    let back = run(&place, &wish(&old), &yes);
    assert_eq!(back.status, Status::Ok, "{back:?}");
}

#[test]
fn the_one_before_and_the_one_before_that_are_kept() {
    let (_dir, place) = installed();
    let mut names = Vec::new();
    for mark in ["a", "b", "c", "d"] {
        let place = Place::of(&place.usual());
        let release_dir = run(&place, &wish(release(mark).path()), &yes).installed.unwrap();
        place.point_at(&release_dir).unwrap();
        names.push(release_dir.file_name().unwrap().to_str().unwrap().to_owned());
    }
    let mut kept = names.split_off(1);
    kept.sort();
    assert_eq!(made(&place), kept);
}

#[test]
fn what_is_not_as_listed_is_refused_and_leaves_nothing() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &str); 5] = [
        ("changed", |dir| fs::write(dir.join(NAMES[1]), "x").unwrap(), "is not what SHA256SUMS lists"),
        ("no list", |dir| fs::remove_file(dir.join(SUMS)).unwrap(), "--no-checksum"),
        ("short list", |dir| fs::write(dir.join(SUMS), "").unwrap(), "does not list openclaw"),
        ("missing", |dir| fs::remove_file(dir.join(NAMES[2])).unwrap(), "has no `openclaw-channel`"),
        (
            "a directory",
            |dir| {
                fs::remove_file(dir.join(NAMES[2])).and_then(|()| fs::create_dir(dir.join(NAMES[2]))).unwrap()
            },
            "is no file",
        ),
    ];
    for (what, spoil, told) in cases {
        let (from, (_dir, place)) = (release("new"), installed());
        spoil(from.path());
        let outcome = run(&place, &wish(from.path()), &yes);
        assert_eq!((outcome.status, outcome.reason), (Status::Error, Some("not-a-release")), "{what}");
        assert!(outcome.trouble().unwrap().contains(told), "{what}: {outcome:?}");
        assert_eq!(made(&place), [""; 0], "{what}");
    }
    let (from, (_dir, place)) = (release("new"), installed());
    fs::remove_file(from.path().join(SUMS)).unwrap();
    let unchecked = Wish { checksum: false, ..wish(from.path()) };
    assert_eq!(run(&place, &unchecked, &yes).status, Status::Ok);
}

#[test]
fn a_release_that_could_not_go_on_is_not_installed() {
    let (_dir, place) = installed();
    let outcome = run(&place, &wish(release("new").path()), &|_| Err("journal schema".to_owned()));
    assert_eq!(outcome.reason, Some("preflight-failed"));
    assert_eq!((outcome.trouble(), made(&place).len()), (Some("journal schema"), 0));
    let dry = run(&place, &Wish { dry_run: true, ..wish(release("new").path()) }, &yes);
    assert_eq!((dry.status, dry.reason, made(&place).len()), (Status::Skipped, Some("dry-run"), 0));
}

fn packed(from: &Path, prefix: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in NAMES.iter().chain([&SUMS]) {
        tar.append_path_with_name(from.join(name), format!("{prefix}{name}")).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn an_archive_may_be_packed_flat_or_in_one_directory() {
    for prefix in ["", "./", "openclaw-9.9.9/"] {
        let from = release("new");
        let tar = packed(from.path(), prefix);
        for bytes in [gzipped(&tar), tar] {
            let (dir, place) = installed();
            let archive = dir.path().join("release");
            fs::write(&archive, bytes).unwrap();
            let outcome = run(&place, &wish(&archive), &yes);
            assert_eq!(outcome.status, Status::Ok, "{prefix}: {outcome:?}");
        }
    }
}

/// One entry with a name or kind that `tar` itself would not write.
fn entry(name: &[u8], kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o755);
    if kind.is_symlink() {
        header.as_old_mut().linkname[..7].copy_from_slice(b"/bin/sh");
    }
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn a_broken_or_hostile_archive_writes_nothing() {
    let whole = packed(release("new").path(), "");
    let with = |first: Vec<u8>| [first, whole.clone()].concat();
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("half", whole[..whole.len() / 4].to_vec(), "no usable archive"),
        ("half of a gzip", gzipped(&whole)[..60].to_vec(), "no usable archive"),
        ("text", b"nothing of the kind, but long enough for that".repeat(40), "no usable archive"),
        ("above", with(entry(b"../openclaw", tar::EntryType::Regular)), "leads out"),
        ("absolute", with(entry(b"/tmp/openclaw", tar::EntryType::Regular)), "leads out"),
        ("a link", with(entry(b"openclaw", tar::EntryType::Symlink)), "no plain file"),
        ("twice", with(entry(b"openclaw", tar::EntryType::Regular)), "exists"),
    ];
    for (what, bytes, told) in cases {
        let (dir, place) = installed();
        let archive = dir.path().join("release.tar");
        fs::write(&archive, bytes).unwrap();
        let outcome = run(&place, &wish(&archive), &yes);
        assert_eq!(outcome.reason, Some("not-a-release"), "{what}: {outcome:?}");
        assert!(outcome.trouble().unwrap().contains(told), "{what}: {outcome:?}");
        assert_eq!(made(&place), [""; 0], "{what}");
    }
}

#[test]
fn a_command_names_the_release_in_its_last_line() {
    let from = release("new");
    let by = |script: String, within| {
        let (_dir, place) = installed();
        let words = ["sh", "-c", &script].map(str::to_owned).to_vec();
        run(&place, &Wish { origin: Origin::Command(words), within, ..wish(from.path()) }, &yes)
    };
    let path = from.path().display();
    let outcome = by(format!("echo building; echo {path}"), COMMAND_WITHIN);
    assert_eq!(outcome.status, Status::Ok, "{outcome:?}");
    let failed = by(format!("echo no disk >&2; echo {path}; exit 3"), COMMAND_WITHIN);
    assert_eq!((failed.reason, failed.steps[1].exit_code), (Some("command-failed"), Some(3)), "{failed:?}");
    assert!(failed.trouble().unwrap().starts_with("no disk"), "{failed:?}");
    let silent = by("true".to_owned(), COMMAND_WITHIN);
    assert!(silent.trouble().unwrap().contains("absolute path"), "{silent:?}");
    let late = by("sleep 600".to_owned(), Duration::from_millis(50));
    assert!(late.trouble().unwrap().contains("did not end"), "{late:?}");
    let seen = by("env >&2; exit 1".to_owned(), COMMAND_WITHIN);
    assert!(!seen.trouble().unwrap().contains("CARGO_"), "{seen:?}");
}

#[test]
fn an_install_dir_that_cannot_be_written_is_told_with_a_remedy() {
    let (from, place) = (release("new"), Place::of(Path::new("/missing/openclaw")));
    let outcome = run(&place, &wish(from.path()), &yes);
    assert_eq!((outcome.reason, outcome.steps.len()), (Some("not-writable"), 1));
    assert!(outcome.trouble().unwrap().contains("then run `openclaw restart`"), "{outcome:?}");
}

#[test]
fn one_update_at_a_time_and_one_that_was_ended_is_no_obstacle() {
    let (_dir, place) = installed();
    let first = place.stage().unwrap();
    assert!(place.stage().unwrap_err().contains("another update is under way"));
    let left = first.path().to_owned();
    drop(first);
    // as a restart in its middle leaves it: with the id of the process that goes on
    fs::create_dir(&left).unwrap();
    fs::write(left.join("openclaw"), "half").unwrap();
    let again = place.stage().unwrap();
    assert_eq!((again.path(), fs::read_dir(&left).unwrap().count()), (left.as_path(), 0));
}
