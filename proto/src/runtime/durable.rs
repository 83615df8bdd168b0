//! Files named by their content, stored so that a power cut leaves the whole file or none. Blocks: callers are on a blocking pool.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::wire::Id;

/// Stores `bytes` under `path`, a name made of their digest: one that stands there with the same length is the same file. The
/// folder must exist.
///
/// # Errors
/// Those of the file system; nothing stands under `path` then that did not stand there before.
pub fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let here = |meta: fs::Metadata| meta.is_file() && meta.len() == bytes.len() as u64;
    if fs::symlink_metadata(path).is_ok_and(here) {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", Id::now()));
    let temporary = Path::new(&name);
    let stored = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        sync_folder_of(path)
    })();
    if stored.is_err() {
        // Of no use to anyone.
        drop(fs::remove_file(temporary));
    }
    stored
}

/// Makes a file's name survive a power cut.
///
/// # Errors
/// Those of opening and syncing the folder.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_file_of_before_is_replaced_and_a_whole_one_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, b"wh").unwrap();
        store(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        store(&path, b"whole").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
        assert!(store(&dir.path().join("none/abc"), b"x").is_err());
    }
}
