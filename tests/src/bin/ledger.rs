//! The ledger tool of the fault matrix: `ledger FILE WORD…` appends one line to the file, in one write, and returns when the
//! disk has it. A tool call that ran twice shows as two lines with the same first word.

use std::fs::OpenOptions;
use std::io::Write;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(path) = args.next() else {
        return Err(std::io::Error::other("usage: ledger FILE WORD…"));
    };
    let words: Vec<String> = args.collect();
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{}\n", words.join(" ")).as_bytes())?;
    file.sync_data()?;
    println!("written: {}", words.join(" "));
    Ok(())
}
