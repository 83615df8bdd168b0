//! The environment of a command, as pure rules: what a call may add, which shell, which PATH. What commands get at all is decided
//! by `proto::wire::tool_env`.

use std::collections::BTreeMap;

use proto::wire::tool_env::dangerous;

/// May a call set this variable? The error is for the model.
pub fn check(name: &str) -> Result<(), String> {
    if name.eq_ignore_ascii_case("PATH") {
        return Err("Setting PATH is not allowed for commands on this host; use absolute paths, or tools.exec.pathPrepend in the configuration".to_owned());
    }
    if dangerous(name) {
        return Err(format!("Environment variable {name} is not allowed for commands on this host"));
    }
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("Environment variable name {name:?} is not valid"));
    }
    Ok(())
}

/// The shell that runs commands: the user's, except fish, whose syntax no model expects.
pub fn shell(env: &BTreeMap<String, String>) -> String {
    match env.get("SHELL").map(String::as_str) {
        Some(shell) if shell.starts_with('/') && !shell.ends_with("/fish") => shell.to_owned(),
        _ => "/bin/sh".to_owned(),
    }
}

/// `PATH` with directories in front.
pub fn with_path(env: &mut BTreeMap<String, String>, prepend: &[std::path::PathBuf]) {
    if prepend.is_empty() {
        return;
    }
    let mut parts: Vec<String> = prepend.iter().map(|dir| dir.display().to_string()).collect();
    parts.extend(env.get("PATH").filter(|path| !path.is_empty()).cloned());
    env.insert("PATH".to_owned(), parts.join(":"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_may_not_set_what_loads_code() {
        for name in ["LD_PRELOAD", "BASH_ENV", "node_options", "PATH", "", "A=B"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check("FOO").is_ok());
    }

    #[test]
    fn the_shell_is_one_that_models_know() {
        let with = |shell: &str| super::shell(&BTreeMap::from([("SHELL".to_owned(), shell.to_owned())]));
        assert_eq!(with("/usr/bin/fish"), "/bin/sh");
        assert_eq!(with("/bin/zsh"), "/bin/zsh");
        assert_eq!(super::shell(&BTreeMap::new()), "/bin/sh");
    }
}
