//! Lists the files of `dashboard/`, so that the page is part of the executable whatever files it has.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("dashboard");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?).join("dashboard.rs");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    if root.is_dir() {
        collect(&root, &mut files)?;
    }
    files.sort();
    let mut text = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?.display().to_string();
        let line =
            writeln!(text, "    ({name:?}, include_bytes!({:?}).as_slice()),", file.display().to_string());
        line.map_err(io::Error::other)?;
    }
    text.push_str("]\n");
    fs::write(out, text)
}

/// Regular files below `dir`; names that begin with a dot and tests stay out.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "node_modules" || name.contains(".test.") || name.ends_with(".md")
        {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
