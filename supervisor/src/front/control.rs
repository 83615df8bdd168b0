//! The control socket: the command line of this host calls methods with full operator rights.
//!
//! Two proofs are asked for: the peer's user is ours or root (kernel), and it knows the token of the 0600
//! file beside the socket, which is written anew at each start and hidden from tools. Frames are those of
//! worker links, without flow control: a call is answered by one or two replies under its corr.

mod session;

use super::carry::lot::Stage;
use super::secret::{Secret, random_token};
use crate::gateway::Handles;
use crate::paths::Paths;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

/// Local commands at once; a status bar and a few shells are far below.
const SESSIONS_MAX: usize = 64;

/// Why the control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A file operation failed.
    #[error("control socket: cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The directory belongs to somebody else.
    #[error(
        "control socket: {0} belongs to another user; remove it or set OPENCLAW_STATE_DIR to a shorter path"
    )]
    Foreign(PathBuf),
    /// No randomness.
    #[error("control socket: the system's random source failed: {0}")]
    Random(getrandom::Error),
}

/// The open socket.
pub struct Control {
    listener: std::os::unix::net::UnixListener,
    token: Arc<Secret>,
}

impl Control {
    /// Open socket and token file. The caller holds the instance lock, so an old socket is a leftover.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn open(paths: &Paths) -> Result<Self, ControlError> {
        let (socket, token_file) = (paths.control_socket(), paths.control_token_file());
        for path in [&socket, &token_file] {
            if let Some(dir) = path.parent() {
                private_dir(dir)?;
            }
        }
        let token = random_token().map_err(ControlError::Random)?;
        write_token(&token_file, &token)?;
        let fail = |act| move |source| ControlError::Io { act, path: paths.control_socket(), source };
        match std::fs::remove_file(&socket) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail("remove the old")(e)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&socket).map_err(fail("bind"))?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))
            .map_err(fail("restrict"))?;
        listener.set_nonblocking(true).map_err(fail("set up"))?;
        // `Secret` takes the text that was just made, which is never blank.
        let token = Secret::new(&token).ok_or(ControlError::Random(getrandom::Error::UNEXPECTED))?;
        Ok(Self { listener, token: Arc::new(token) })
    }

    /// Take over the socket that an earlier image of this process listened on, with its token.
    ///
    /// # Errors
    /// The token file cannot be read; a new socket is to be opened then.
    pub fn adopt(listener: std::os::unix::net::UnixListener, paths: &Paths) -> Result<Self, ControlError> {
        let path = paths.control_token_file();
        let fail = |source| ControlError::Io { act: "read", path: path.clone(), source };
        let text = std::fs::read_to_string(&path).map_err(fail)?;
        let empty = || fail(std::io::Error::new(std::io::ErrorKind::InvalidData, "empty"));
        let token = Secret::new(&text).ok_or_else(empty)?;
        listener.set_nonblocking(true).map_err(fail)?;
        Ok(Self { listener, token: Arc::new(token) })
    }

    /// The socket, for the next image of this process.
    pub fn into_listener(self) -> std::os::unix::net::UnixListener {
        self.listener
    }

    /// Serve until the front is held or stops; gives the socket back when it is to go on.
    pub async fn serve(self, gw: Handles) -> Option<Self> {
        let listener = match UnixListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "control socket cannot be served");
                return None;
            }
        };
        let places = Arc::new(Semaphore::new(SESSIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                stage = gw.front.lot.reached(Stage::Held) => {
                    let listener = listener.into_std().ok().filter(|_| stage < Stage::Stopping)?;
                    return Some(Self { listener, token: self.token });
                }
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(super::limits::ACCEPT_BACKOFF_MIN).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::warn!("control socket: too many local commands at once; one refused");
                continue;
            };
            let (gw, token) = (gw.clone(), self.token.clone());
            tokio::spawn(async move {
                session::serve(gw, stream, token).await;
                drop(place);
            });
        }
    }
}

fn private_dir(dir: &Path) -> Result<(), ControlError> {
    let fail = |act| move |source| ControlError::Io { act, path: dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail("create"))?;
    let meta = std::fs::symlink_metadata(dir).map_err(fail("look at"))?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(ControlError::Foreign(dir.to_owned()));
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(fail("restrict"))
}

fn write_token(path: &Path, token: &str) -> Result<(), ControlError> {
    let fail = |source| ControlError::Io { act: "write", path: path.to_owned(), source };
    let temporary = path.with_extension("token.tmp");
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&temporary).map_err(fail)?;
    file.write_all(token.as_bytes()).map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)
}

#[cfg(test)]
mod tests;
