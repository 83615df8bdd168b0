//! Pictures on their way in, files on their way out. All of it on the blocking pool.

use std::fs;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::wire::agent::RunInput;
use proto::wire::channel::MediaRef;
use sha2::{Digest, Sha256};

use crate::net_guard::{Fetched, Guard};
use crate::session::message::Block;

/// A picture above this is not put into a request; vendors refuse larger ones.
const IMAGE_BYTES_MAX: u64 = 5 * 1024 * 1024;
/// Pictures of one turn, together: with their encoding they must fit into one line of a transcript (16 MiB). Vendors take
/// less in one request.
const IMAGES_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// A file above this is not taken along with a reply.
const FILE_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// A source on the web above this stays a link: networks take no larger pictures and videos.
const WEB_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Sources of one part of an answer that are fetched; each may take half a minute.
const WEB_SOURCES_MAX: usize = 4;

/// The pictures of the inputs as content blocks; what cannot be read is left out (its name stands in the text). When they are
/// too large together, a last block tells the model so.
pub async fn images(state: &Path, inputs: &[RunInput]) -> Vec<Block> {
    let refs: Vec<MediaRef> = inputs
        .iter()
        .flat_map(|input| input.attachments.iter())
        .filter(|media| media.mime.starts_with("image/"))
        .cloned()
        .collect();
    if refs.is_empty() {
        return Vec::new();
    }
    let state = state.to_owned();
    tokio::task::spawn_blocking(move || blocks(&state, refs)).await.unwrap_or_default()
}

fn blocks(state: &Path, refs: Vec<MediaRef>) -> Vec<Block> {
    let (mut blocks, mut room, mut left_out) = (Vec::new(), IMAGES_BYTES_MAX, 0_usize);
    for media in refs {
        let mime_type = media.mime.clone();
        let Some(bytes) = image(state, media) else { continue };
        match room.checked_sub(bytes.len() as u64) {
            Some(rest) => {
                room = rest;
                blocks.push(Block::Image { data: STANDARD.encode(bytes), mime_type });
            }
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let most = IMAGES_BYTES_MAX / (1024 * 1024);
        blocks.push(Block::text(format!(
            "[{left_out} more pictures are not shown: together they are larger than {most} MiB. Read them one by one from the paths above, or ask for them again.]"
        )));
    }
    blocks
}

fn image(state: &Path, media: MediaRef) -> Option<Vec<u8>> {
    let bytes = match (media.inline, media.path) {
        (Some(bytes), _) => bytes,
        (None, Some(path)) => {
            let path = below(state, Path::new(&path))?;
            fs::metadata(&path).ok().filter(|meta| meta.is_file() && meta.len() <= IMAGE_BYTES_MAX)?;
            fs::read(path).ok()?
        }
        (None, None) => return None,
    };
    (bytes.len() as u64 <= IMAGE_BYTES_MAX).then_some(bytes)
}

/// `path` below `root`, if it stays there.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.components().all(|part| matches!(part, Component::Normal(_))).then(|| root.join(relative))
}

/// Copies local files that an answer names below `<state>/media/outbound`, where channel workers can read them.
/// Sources that are no readable file of the workspace are dropped.
pub async fn outbound(state: &Path, workspace: &Path, sources: Vec<String>) -> Vec<MediaRef> {
    if sources.is_empty() {
        return Vec::new();
    }
    let (state, workspace) = (state.to_owned(), workspace.to_owned());
    tokio::task::spawn_blocking(move || {
        sources.iter().filter_map(|source| stored(&state, &workspace, source)).collect()
    })
    .await
    .unwrap_or_default()
}

fn stored(state: &Path, workspace: &Path, source: &str) -> Option<MediaRef> {
    let root = fs::canonicalize(workspace).ok()?;
    let real = fs::canonicalize(workspace.join(source)).ok().filter(|real| real.starts_with(&root))?;
    fs::metadata(&real).ok().filter(|meta| meta.is_file() && meta.len() <= FILE_BYTES_MAX)?;
    let bytes = fs::read(&real).ok()?;
    let extension = real.extension().and_then(|ext| ext.to_str()).unwrap_or("bin").to_ascii_lowercase();
    let name = real.file_name().map(|name| name.to_string_lossy().into_owned());
    kept(state, &bytes, &extension, name)
}

/// Puts bytes where channel workers can read them, under their own digest.
fn kept(state: &Path, bytes: &[u8], extension: &str, name: Option<String>) -> Option<MediaRef> {
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let relative = format!("media/outbound/{sha256}.{extension}");
    let target = state.join(&relative);
    if !target.exists() {
        crate::session::disk::create_private_dir(target.parent()?).ok()?;
        crate::session::disk::replace(&target, bytes).ok()?;
    }
    let (kind, mime) = kind_of(extension);
    Some(MediaRef {
        kind: kind.to_owned(),
        mime: mime.to_owned(),
        bytes: bytes.len() as u64,
        sha256,
        path: Some(relative),
        name,
        inline: None,
    })
}

/// Fetches what an answer names on the web, as far as this agent's tools may use the network; gives what came, and the URLs
/// that stay links: pages, what is refused, what does not answer.
pub async fn from_web(guard: &Guard, state: &Path, urls: Vec<String>) -> (Vec<MediaRef>, Vec<String>) {
    let allowed = crate::tool::confined::current().is_none_or(|now| !now.enforce || now.policy.network);
    let (mut found, mut links) = (Vec::new(), Vec::new());
    for (nth, url) in urls.into_iter().enumerate() {
        let source = match allowed && nth < WEB_SOURCES_MAX {
            true => guard.get(&url, WEB_BYTES_MAX).await,
            false => {
                links.push(url);
                continue;
            }
        };
        let media = match source {
            Ok(source) => from_source(state, source).await,
            Err(error) => {
                // Without the URL: its query may hold a key.
                tracing::info!(%error, "a picture or file of the answer stays a link");
                None
            }
        };
        match media {
            Some(media) => found.push(media),
            None => links.push(url),
        }
    }
    (found, links)
}

async fn from_source(state: &Path, source: Fetched) -> Option<MediaRef> {
    let extension = EXTENSIONS.iter().find(|extension| kind_of(extension).1 == source.mime)?;
    let (state, name) = (state.to_owned(), Some(source.name).filter(|name| !name.is_empty()));
    let kept = move || kept(&state, &source.bytes, extension, name);
    tokio::task::spawn_blocking(kept).await.ok().flatten()
}

/// What is sent as a file when a web server calls it so; anything else, a page above all, stays a link.
const EXTENSIONS: [&str; 11] =
    ["png", "jpg", "gif", "webp", "mp3", "ogg", "wav", "m4a", "mp4", "webm", "pdf"];

fn kind_of(extension: &str) -> (&'static str, &'static str) {
    match extension {
        "png" => ("image", "image/png"),
        "jpg" | "jpeg" => ("image", "image/jpeg"),
        "gif" => ("image", "image/gif"),
        "webp" => ("image", "image/webp"),
        "mp3" => ("audio", "audio/mpeg"),
        "ogg" | "opus" => ("audio", "audio/ogg"),
        "wav" => ("audio", "audio/wav"),
        "m4a" => ("audio", "audio/mp4"),
        "mp4" => ("video", "video/mp4"),
        "webm" => ("video", "video/webm"),
        "pdf" => ("document", "application/pdf"),
        "txt" | "md" => ("document", "text/plain"),
        "json" => ("document", "application/json"),
        "zip" => ("document", "application/zip"),
        _ => ("document", "application/octet-stream"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_are_too_large_together_are_left_out_and_told() {
        let picture = |mib: usize| MediaRef {
            kind: "image".to_owned(),
            mime: "image/png".to_owned(),
            inline: Some(vec![0; mib * 1024 * 1024]),
            ..MediaRef::default()
        };
        let shown = |sizes: &[usize]| {
            let blocks = blocks(Path::new("/"), sizes.iter().map(|mib| picture(*mib)).collect());
            let images = blocks.iter().filter(|block| matches!(block, Block::Image { .. })).count();
            (images, blocks.len() - images)
        };
        assert_eq!(shown(&[5, 5]), (2, 0));
        assert_eq!(shown(&[4, 4, 4, 2]), (3, 1), "a later one that fits is shown");
        assert_eq!(shown(&[6]), (0, 0), "one that no vendor takes is left out as before");
    }
}
