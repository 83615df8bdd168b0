//! Where the control socket and its token lie. The same rule for the gateway that listens and the command line that asks.

use crate::paths::Paths;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// `sockaddr_un.sun_path` has 108 bytes on Linux; a few are left for the terminating zero and for a temporary name.
const SOCKET_PATH_BYTES_MAX: usize = 100;

impl Paths {
    /// Run-time files: control socket, its token, host lock of last resort. 0700.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.state_dir.join("run")
    }

    /// The control socket. A state directory with a long path gets a short hashed name in `/tmp` (its directory is 0700
    /// and must be ours).
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        let path = self.run_dir().join("control.sock");
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return path;
        }
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let uid = rustix::process::getuid().as_raw();
        PathBuf::from(format!("/tmp/openclaw-{uid}")).join(format!("{name}.sock"))
    }

    /// 0600 file beside the socket; every start writes a new token.
    #[must_use]
    pub fn control_token_file(&self) -> PathBuf {
        self.run_dir().join("control.token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_state_dir_gets_a_short_socket() {
        let paths = |state: &str| Paths {
            home: "/h".into(),
            state_dir: state.into(),
            config_file: "/h/c".into(),
            credentials_dir: "/h/k".into(),
            profile: None,
            default_port: 1,
        };
        assert_eq!(paths("/h/.openclaw").control_socket(), PathBuf::from("/h/.openclaw/run/control.sock"));
        let long = format!("/{}", "x".repeat(120));
        let socket = paths(&long).control_socket();
        assert!(socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "{}", socket.display());
        assert_ne!(socket, paths(&format!("{long}y")).control_socket());
    }
}
