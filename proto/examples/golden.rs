//! Writes the frozen frame of every message that has none yet: `cargo run -p proto --example golden`. A frame that exists
//! is never written again; it is what an older release sends.

use bytes::BytesMut;
use std::path::Path;

#[path = "../tests/golden/samples.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests")]
mod samples;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    std::fs::create_dir_all(&folder)?;
    for sample in samples::all() {
        let path = folder.join(format!("{}.mp", sample.name));
        if path.exists() {
            continue;
        }
        let mut bytes = BytesMut::new();
        sample.frame.encode(&mut bytes).map_err(std::io::Error::other)?;
        std::fs::write(&path, &bytes)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
