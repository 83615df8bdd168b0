//! A library that is loaded before libc and gets in the way of `fsync` and `fdatasync`, and of the wall clock; steered by
//! files. Built by the system's C compiler; without one its cases are skipped. Only the supervisor gets it: workers start
//! with an environment of their own.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const SOURCE: &str = include_str!("shim.c");

pub struct Shim {
    dir: TempDir,
}

impl Shim {
    pub fn build() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let source = dir.path().join("shim.c");
        fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
        let shim = Self { dir };
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(shim.library())
            .arg(&source)
            .arg("-ldl")
            .output()
            .map_err(|error| format!("no C compiler: {error}"))?;
        if !output.status.success() {
            return Err(format!("the shim does not build: {}", String::from_utf8_lossy(&output.stderr)));
        }
        shim.write("0 0");
        fs::write(shim.clock(), 0_i64.to_ne_bytes()).map_err(|error| error.to_string())?;
        Ok(shim)
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("shim.so")
    }

    fn steer(&self) -> PathBuf {
        self.dir.path().join("steer")
    }

    fn clock(&self) -> PathBuf {
        self.dir.path().join("clock")
    }

    /// The wall clock is off by this from now on. Written in place: the file is mapped.
    pub fn set_clock(&self, seconds: i64) -> Result<(), String> {
        let file = fs::OpenOptions::new().write(true).open(self.clock());
        let written = file.and_then(|file| file.write_all_at(&seconds.to_ne_bytes(), 0));
        written.map_err(|error| error.to_string())
    }

    /// Environment of the process to disturb.
    pub fn preload(&self) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".into(), self.library().display().to_string()),
            ("SHIM_STEER".into(), self.steer().display().to_string()),
            ("SHIM_CLOCK".into(), self.clock().display().to_string()),
        ]
    }

    fn write(&self, text: &str) {
        // Replaced as a whole: the shim reads it at every call.
        let new = self.dir.path().join("steer.new");
        if fs::write(&new, text).is_ok() {
            let _moved = fs::rename(new, self.steer());
        }
    }

    pub fn delay_ms(&self, ms: u64) {
        self.write(&format!("{ms} 0"));
    }

    /// Every call fails with EIO.
    pub fn fail(&self, on: bool) {
        self.write(if on { "0 1" } else { "0 0" });
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        fs::metadata(self.dir.path().join("steer.calls")).map_or(0, |meta| meta.len())
    }
}
