//! Files from the network: streamed to the state folder under the hash of their content, so that the same picture
//! lies there once and a half-loaded one never under its name.

use std::path::{Path, PathBuf};

use futures_util::{Stream, StreamExt};
use proto::wire::channel::MediaRef;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error("the file is larger than {limit} bytes (mediaMaxMb)")]
    TooLarge { limit: u64 },
    #[error("the file was not loaded whole: {0}")]
    Network(String),
    #[error("cannot store the file in {path}: {source}")]
    Disk { path: PathBuf, source: std::io::Error },
}

impl MediaError {
    /// Our own disk is full: the network keeps the file until there is room.
    pub fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind as K;
        matches!(self, Self::Disk { source, .. } if matches!(source.kind(), K::StorageFull | K::QuotaExceeded))
    }
}

/// Kind, type and name of a file, as the network says.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// `image`, `audio`, `video`, `document`.
    pub kind: &'static str,
    pub mime: String,
    pub name: Option<String>,
}

/// Where the files of one account go.
#[derive(Debug, Clone)]
pub struct MediaStore {
    state_dir: PathBuf,
    /// `media/<channel>-<account>`, below the state folder.
    folder: String,
    bytes_max: u64,
}

impl MediaStore {
    pub fn new(state_dir: &Path, channel: &str, account: &str, bytes_max: u64) -> Self {
        Self { state_dir: state_dir.to_owned(), folder: format!("media/{channel}-{account}"), bytes_max }
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Streams a file to its place and names it.
    pub async fn store<B, E>(
        &self,
        described: Described,
        content: impl Stream<Item = Result<B, E>>,
    ) -> Result<MediaRef, MediaError>
    where
        B: AsRef<[u8]>,
        E: std::fmt::Display,
    {
        let folder = self.state_dir.join(&self.folder);
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |source| MediaError::Disk { path, source }
        };
        tokio::fs::create_dir_all(&folder).await.map_err(disk(&folder))?;
        let part = Partial(folder.join(format!(".part-{}", proto::wire::Id::now())));
        let (hash, bytes) = self.write(&part.0, content).await?;
        let file_name = match extension(&described) {
            Some(extension) => format!("{hash}.{extension}"),
            None => hash.clone(),
        };
        proto::runtime::failpoint::hit("ch.media.before_rename");
        let place = folder.join(&file_name);
        tokio::fs::rename(&part.0, &place).await.map_err(disk(&place))?;
        // Durable before the message that names it is.
        let synced = place.clone();
        let sync = move || proto::runtime::durable::sync_folder_of(&synced);
        let synced =
            tokio::task::spawn_blocking(sync).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        synced.map_err(disk(&place))?;
        Ok(MediaRef {
            kind: described.kind.to_owned(),
            mime: described.mime,
            bytes,
            sha256: hash,
            path: Some(format!("{}/{file_name}", self.folder)),
            name: described.name,
            inline: None,
        })
    }

    async fn write<B, E>(
        &self,
        part: &Path,
        content: impl Stream<Item = Result<B, E>>,
    ) -> Result<(String, u64), MediaError>
    where
        B: AsRef<[u8]>,
        E: std::fmt::Display,
    {
        let disk = |source| MediaError::Disk { path: part.to_owned(), source };
        let mut file = tokio::fs::File::create(part).await.map_err(disk)?;
        let (mut hash, mut bytes) = (Sha256::new(), 0u64);
        let mut content = std::pin::pin!(content);
        while let Some(chunk) = content.next().await {
            let chunk = chunk.map_err(|error| MediaError::Network(error.to_string()))?;
            let chunk = chunk.as_ref();
            bytes = bytes.saturating_add(chunk.len() as u64);
            if bytes > self.bytes_max {
                return Err(MediaError::TooLarge { limit: self.bytes_max });
            }
            hash.update(chunk);
            file.write_all(chunk).await.map_err(disk)?;
            proto::runtime::failpoint::hit("ch.media.mid");
        }
        file.sync_all().await.map_err(disk)?;
        Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes))
    }

    /// A file of an outbound message: its bytes are inline or below the state folder, nowhere else.
    pub async fn load(&self, media: &MediaRef) -> Result<Vec<u8>, MediaError> {
        if let Some(bytes) = &media.inline {
            return Ok(bytes.clone());
        }
        let relative = PathBuf::from(media.path.as_deref().unwrap_or_default());
        let inside = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let path = self.state_dir.join(&relative);
        if !inside || relative.as_os_str().is_empty() {
            let source = std::io::Error::other("not a path below the state folder");
            return Err(MediaError::Disk { path: relative, source });
        }
        tokio::fs::read(&path).await.map_err(|source| MediaError::Disk { path, source })
    }
}

/// A file that is removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The ending that tools know the file by; only plain letters and digits.
fn extension(described: &Described) -> Option<String> {
    let named = described.name.as_deref().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    let by_type = match described.mime.as_str() {
        "image/jpeg" => Some("jpg"),
        "image/png" => Some("png"),
        "image/webp" => Some("webp"),
        "audio/ogg" => Some("ogg"),
        "audio/mpeg" => Some("mp3"),
        "video/mp4" => Some("mp4"),
        _ => None,
    };
    let ending = named.or(by_type)?.to_ascii_lowercase();
    let plain = ending.len() <= 8 && !ending.is_empty() && ending.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then_some(ending)
}

#[cfg(test)]
mod tests {
    use super::{Described, MediaError, MediaStore};
    use futures_util::stream;
    use proto::wire::channel::MediaRef;

    fn chunks(parts: &[&str]) -> impl futures_util::Stream<Item = Result<Vec<u8>, String>> {
        stream::iter(parts.iter().map(|part| Ok(part.as_bytes().to_vec())).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn the_same_content_has_one_place_and_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = MediaStore::new(dir.path(), "telegram", "default", 10);
        let described = || Described { kind: "image", mime: "image/png".into(), name: None };
        let one = store.store(described(), chunks(&["ab", "cd"])).await.unwrap();
        let two = store.store(described(), chunks(&["abcd"])).await.unwrap();
        assert_eq!(one, two);
        assert_eq!(one.sha256, "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589");
        assert_eq!(store.load(&one).await.unwrap(), b"abcd");
        assert_eq!(std::fs::read_dir(dir.path().join("media/telegram-default")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn too_much_and_broken_loads_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = MediaStore::new(dir.path(), "telegram", "default", 3);
        let error = store.store(Described::default(), chunks(&["ab", "cd"])).await.unwrap_err();
        assert!(matches!(error, MediaError::TooLarge { limit: 3 }));
        let broken = stream::iter([Ok(b"a".to_vec()), Err("reset".to_owned())]);
        assert!(matches!(store.store(Described::default(), broken).await, Err(MediaError::Network(_))));
        assert_eq!(std::fs::read_dir(dir.path().join("media/telegram-default")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nothing_outside_the_state_folder_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let store = MediaStore::new(dir.path(), "telegram", "default", 3);
        for path in ["/etc/passwd", "../secret", "media/../../x", ""] {
            let media = MediaRef { path: Some(path.into()), ..MediaRef::default() };
            assert!(store.load(&media).await.is_err(), "{path}");
        }
    }
}
