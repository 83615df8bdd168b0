//! Finding the page's files: names without tricks, inside the executable or below one directory.

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Files of the page inside the executable: name, content.
static EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// A file of a page is at most this large.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Endings that name a file; a path without one is a route of the page.
const TYPES: [(&str, &str); 20] = [
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("json", "application/json; charset=utf-8"),
    ("webmanifest", "application/manifest+json; charset=utf-8"),
    ("map", "application/json; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("ico", "image/x-icon"),
    ("txt", "text/plain; charset=utf-8"),
    ("woff2", "font/woff2"),
    ("woff", "font/woff"),
    ("ttf", "font/ttf"),
    ("wasm", "application/wasm"),
    ("mp3", "audio/mpeg"),
];

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `index.html`.
    Page,
    /// A file by its relative name.
    File(String),
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Content type, content.
    File(&'static str, Bytes),
    /// No such file.
    Missing,
    /// There is no page at all.
    NoPage,
}

/// Percent-decode a path once. `None` when malformed, not UTF-8, or with a control character.
pub fn decode(path: &str) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let hex =
            |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        out.push(hex(bytes.next())? << 4 | hex(bytes.next())?);
    }
    String::from_utf8(out).ok().filter(|p| !p.chars().any(char::is_control))
}

/// Read a decoded path. `None` when it tries to leave the page's directory.
pub fn wanted(path: &str) -> Option<Wanted> {
    let relative = path.trim_start_matches('/');
    // A route of the page may be deep, its assets lie at the root all the same.
    let relative = relative.rfind("/assets/").and_then(|i| relative.get(i + 1..)).unwrap_or(relative);
    if relative.contains('\\')
        || relative.split('/').any(|part| part == ".." || part == "." || part.contains('%'))
    {
        return None;
    }
    let is_file = content_type(relative).is_some() || relative.starts_with("assets/");
    Some(if is_file { Wanted::File(relative.to_owned()) } else { Wanted::Page })
}

fn content_type(name: &str) -> Option<&'static str> {
    let ending = name.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    TYPES.iter().find(|(e, _)| *e == ending).map(|(_, t)| *t)
}

/// Find a file.
pub async fn find(root: Option<&Path>, wanted: &Wanted) -> Found {
    let name = match wanted {
        Wanted::Page => "index.html",
        Wanted::File(name) => name,
    };
    let missing = if *wanted == Wanted::Page { Found::NoPage } else { Found::Missing };
    let kind = content_type(name).unwrap_or("application/octet-stream");
    let Some(root) = root else {
        let file = EMBEDDED.iter().find(|(n, _)| *n == name);
        return file.map_or(missing, |(_, bytes)| Found::File(kind, Bytes::from_static(bytes)));
    };
    let (root, name) = (root.to_owned(), name.to_owned());
    let read = tokio::task::spawn_blocking(move || read_below(&root, &name)).await;
    read.ok().flatten().map_or(missing, |bytes| Found::File(kind, bytes.into()))
}

/// A regular file below the real root that no symbolic and no second hard link leads to: whoever may write into the
/// directory (an agent's tools, say) could name any file of this user by one.
fn read_below(root: &Path, name: &str) -> Option<Vec<u8>> {
    let relative = PathBuf::from(name);
    if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return None;
    }
    let root = root.canonicalize().ok()?;
    let path = root.join(relative);
    if path.canonicalize().ok()? != path {
        return None;
    }
    // Not blocking: opening a pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.nlink() > 1 || meta.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_name_files_routes_or_nothing() {
        let file = |name: &str| Some(Wanted::File(name.into()));
        assert_eq!(wanted("/"), Some(Wanted::Page));
        assert_eq!(wanted("/chat/main"), Some(Wanted::Page));
        assert_eq!(wanted("/app.js"), file("app.js"));
        assert_eq!(wanted("/chat/assets/x.css"), file("assets/x.css"));
        assert_eq!(wanted("/v1.2"), Some(Wanted::Page));
        for bad in ["/../etc/passwd", "/a/../../b.js", "/a\\..\\b.js", "/%2e%2e/x.js"] {
            assert_eq!(wanted(bad), None, "{bad}");
        }
        assert_eq!(decode("/a%20b%2Fc").as_deref(), Some("/a b/c"));
        for bad in ["/%", "/%zz", "/%00", "/%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_directory_is_served_without_leaving_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("page");
        std::fs::create_dir_all(root.join("assets")).unwrap();
        std::fs::write(root.join("index.html"), "page").unwrap();
        std::fs::write(root.join("assets/a.js"), "js").unwrap();
        std::fs::write(dir.path().join("secret.txt"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.txt"), root.join("leak.txt")).unwrap();
        std::os::unix::fs::symlink(root.join("assets/a.js"), root.join("inside.js")).unwrap();
        std::os::unix::fs::symlink(root.join("assets"), root.join("more")).unwrap();
        std::fs::hard_link(dir.path().join("secret.txt"), root.join("second.txt")).unwrap();
        let get = |name: &str| {
            let (root, wanted) = (root.clone(), Wanted::File(name.into()));
            async move { find(Some(&root), &wanted).await }
        };
        assert!(
            matches!(get("assets/a.js").await, Found::File("text/javascript; charset=utf-8", b) if b == "js")
        );
        for link in ["leak.txt", "inside.js", "more/a.js", "second.txt"] {
            assert_eq!(get(link).await, Found::Missing, "{link}");
        }
        assert_eq!(get("../secret.txt").await, Found::Missing);
        assert_eq!(get("/etc/hostname").await, Found::Missing);
        assert!(matches!(find(Some(&root), &Wanted::Page).await, Found::File(_, b) if b == "page"));
        assert_eq!(find(Some(dir.path()), &Wanted::Page).await, Found::NoPage);
    }

    proptest! {
        #[test]
        fn no_path_has_a_parent_component(path in "[/.%a-z0-9\\\\]{0,40}") {
            if let Some(Wanted::File(name)) = decode(&path).as_deref().and_then(wanted) {
                prop_assert!(!Path::new(&name).components().any(|c| matches!(c, Component::ParentDir)));
            }
        }
    }
}
