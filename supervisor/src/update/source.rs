//! A release is copied out of a directory or an archive and compared with its checksums. What is checked is the copy.

use super::{NAMES, SUMS};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

/// SHA-256 of each executable in hex, in the order of [`NAMES`].
pub type Sums = Vec<(&'static str, String)>;

/// A debug build has 80 MB; nothing of a release is larger than this.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// All that is unpacked of an archive: a small one must not fill the disk.
const ARCHIVE_BYTES_MAX: u64 = 3 * FILE_BYTES_MAX;
/// A list of checksums has one line per file.
const SUMS_BYTES_MAX: u64 = 64 * 1024;
/// Entries of an archive: a release has a dozen.
const ENTRIES_MAX: usize = 1000;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const MODE: u32 = 0o755;

/// Copies the release at `from` into the empty directory `to`. `checksum`: a release without a list is refused.
///
/// # Errors
/// What is wrong with it, for people.
pub fn fetch(from: &Path, to: &Path, checksum: bool) -> Result<Sums, String> {
    let named = from.display();
    let facts = std::fs::metadata(from).map_err(|error| format!("{named}: {error}"))?;
    if facts.is_dir() {
        copy_all(from, to)?;
    } else if facts.is_file() {
        unpack(from, to).map_err(|why| format!("{named} is no usable archive: {why}"))?;
    } else {
        return Err(format!("{named} is neither a directory nor an archive"));
    }
    let sums = NAMES.iter().map(|name| {
        let sum = sum_of(&to.join(name)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{named} has no `{name}`: a release has {}", NAMES.join(", ")),
            _ => format!("{name}: {error}"),
        });
        Ok((*name, sum?))
    });
    let sums: Sums = sums.collect::<Result<_, String>>()?;
    let listed = to.join(SUMS);
    if listed.exists() {
        let text = std::fs::read_to_string(&listed).map_err(|error| format!("{SUMS}: {error}"))?;
        compare(&text, &sums).map_err(|why| format!("{named}: {why}"))?;
    } else if checksum {
        return Err(format!(
            "{named} has no {SUMS}: make one with `sha256sum {} > {SUMS}`, or take it unchecked with --no-checksum",
            NAMES.join(" ")
        ));
    }
    Ok(sums)
}

/// Each executable must be listed once or more, always with the sum that it has.
fn compare(text: &str, sums: &Sums) -> Result<(), String> {
    for (name, sum) in sums {
        let mut listed = text.lines().filter_map(|line| {
            let (hex, file) = line.trim_end().split_once(' ')?;
            let file = file.trim_start_matches([' ', '*']);
            (file.strip_prefix("./").unwrap_or(file) == *name).then_some(hex)
        });
        let first = listed.next().ok_or_else(|| format!("{SUMS} does not list {name}"))?;
        if let Some(wrong) = std::iter::once(first).chain(listed).find(|hex| !hex.eq_ignore_ascii_case(sum)) {
            return Err(format!("{name} is not what {SUMS} lists: its SHA-256 is {sum}, not {wrong}"));
        }
    }
    Ok(())
}

/// SHA-256 of a file in hex.
///
/// # Errors
/// It cannot be read.
pub fn sum_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

/// The same of bytes.
pub fn sum_of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    for name in NAMES.iter().chain([&SUMS]) {
        let path = from.join(name);
        let source = match File::open(&path) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        if !source.metadata().is_ok_and(|facts| facts.is_file()) {
            return Err(format!("{} is no file", path.display()));
        }
        put(source, name, to)?;
    }
    Ok(())
}

fn unpack(archive: &Path, to: &Path) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut file = File::open(archive).map_err(text)?;
    let mut head = [0; 2];
    file.read_exact(&mut head).map_err(text)?;
    file.rewind().map_err(text)?;
    let file = BufReader::new(file);
    if head == GZIP { entries(MultiGzDecoder::new(file), to) } else { entries(file, to) }
}

fn entries(stream: impl Read, to: &Path) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut archive = tar::Archive::new(stream.take(ARCHIVE_BYTES_MAX));
    for (count, entry) in archive.entries().map_err(text)?.enumerate() {
        let entry = entry.map_err(text)?;
        if count >= ENTRIES_MAX {
            return Err(format!("it has more than {ENTRIES_MAX} entries"));
        }
        let path = entry.path().map_err(text)?.into_owned();
        let kind = entry.header().entry_type();
        let shown = path.display();
        let mut names = Vec::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                _ => return Err(format!("entry {shown} leads out of the archive")),
            }
        }
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(format!("entry {shown} is no plain file"));
        }
        // Beside each other, at the top or in the one directory that holds everything.
        let known = NAMES.iter().chain([&SUMS]).find(|name| names.last().is_some_and(|last| last == *name));
        if let Some(name) = known.filter(|_| names.len() <= 2) {
            put(entry, name, to)?;
        }
    }
    Ok(())
}

/// Writes one new file; a second one of the same name is refused.
fn put(source: impl Read, name: &str, to: &Path) -> Result<(), String> {
    let text = |error: io::Error| format!("{name}: {error}");
    let limit = if name == SUMS { SUMS_BYTES_MAX } else { FILE_BYTES_MAX };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(to.join(name)).map_err(text)?;
    let copied = io::copy(&mut source.take(limit + 1), &mut file).map_err(text)?;
    if copied > limit {
        return Err(format!("{name} is larger than {limit} bytes"));
    }
    file.flush().and_then(|()| file.sync_all()).map_err(text)
}
