//! The command lines that operators of the original know by heart: `node dist/index.js <command>`. In an image, a link named
//! `node` leads to this program; as the first words of a container's command they mean the same.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// File names of the original's program.
const SCRIPTS: [&str; 2] = ["index.js", "openclaw.mjs"];

/// The arguments as this program understands them: `node dist/index.js status` is `openclaw status`.
///
/// # Errors
/// It was called as `node` with something else than the original's program.
pub fn arguments(mut words: Vec<OsString>) -> Result<Vec<OsString>, &'static str> {
    let is_node = |word: &OsString| Path::new(word).file_name() == Some(OsStr::new("node"));
    let called_as_node = words.first().is_some_and(is_node);
    if !called_as_node {
        let meant = words.get(1).is_some_and(is_node) && words.get(2).is_some_and(|word| is_script(word));
        if meant {
            words.drain(1..3);
        }
        return Ok(words);
    }
    if !words.get(1).is_some_and(|word| is_script(word)) {
        return Err(
            "there is no Node.js here: `node` is another name of openclaw, for `node dist/index.js <command>`",
        );
    }
    words.drain(0..2);
    words.insert(0, "openclaw".into());
    Ok(words)
}

fn is_script(word: &OsStr) -> bool {
    Path::new(word).file_name().and_then(OsStr::to_str).is_some_and(|name| SCRIPTS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<String, &'static str> {
        let words = arguments(line.split(' ').map(OsString::from).collect())?;
        Ok(words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn known_command_lines_work_letter_by_letter() {
        for (typed, meant) in [
            ("node dist/index.js channels status --probe", "openclaw channels status --probe"),
            ("/usr/local/bin/node /app/dist/index.js health", "openclaw health"),
            ("node openclaw.mjs gateway", "openclaw gateway"),
            ("openclaw node dist/index.js gateway --bind lan", "openclaw gateway --bind lan"),
            ("openclaw node run", "openclaw node run"),
            ("openclaw status", "openclaw status"),
        ] {
            assert_eq!(read(typed).as_deref(), Ok(meant), "{typed}");
        }
        assert!(read("node -e 1").is_err());
        assert!(read("node").is_err());
    }
}
