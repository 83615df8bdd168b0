//! The environment of a command, as pure rules: what is kept of the worker's own, what a call may add.

use std::collections::BTreeMap;

/// Names that change how every program starts or loads code: a call may never set them, and they are never passed on.
const DANGEROUS: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "GCONV_PATH",
    "GLOBIGNORE",
    "IFS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "SSLKEYLOGFILE",
    "ZDOTDIR",
];
/// Prefixes of such names.
const DANGEROUS_PREFIXES: &[&str] = &["LD_", "DYLD_", "BASH_FUNC_", "MALLOC_"];
/// Names that say "secret" in any program's words; never passed on from the worker, though a call may set its own.
const SECRET_PARTS: &[&str] =
    &["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "PRIVATE_KEY", "CREDENTIAL", "_AUTH"];
/// The gateway's own settings: a command must not find the way to the gateway's state or address.
const OWN_PREFIX: &str = "OPENCLAW_";

/// Is this a name that changes how programs load code?
pub fn dangerous(name: &str) -> bool {
    let upper = name.to_uppercase();
    DANGEROUS.contains(&upper.as_str()) || DANGEROUS_PREFIXES.iter().any(|p| upper.starts_with(p))
}

fn secret(name: &str) -> bool {
    let upper = name.to_uppercase();
    upper.starts_with(OWN_PREFIX) || SECRET_PARTS.iter().any(|part| upper.contains(part))
}

/// What commands get of the worker's environment. `extra` (the configuration's `env.vars` that a policy names) is added
/// unscrubbed, dangerous names excepted.
pub fn scrub(
    own: impl IntoIterator<Item = (String, String)>,
    extra: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let kept = own.into_iter().filter(|(name, _)| !dangerous(name) && !secret(name));
    let added = extra.iter().filter(|(name, _)| !dangerous(name)).map(|(n, v)| (n.clone(), v.clone()));
    kept.chain(added).collect()
}

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
    fn secrets_and_loader_variables_are_not_passed_on() {
        let own = [
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("OPENCLAW_GATEWAY_TOKEN", "t"),
            ("OPENAI_API_KEY", "k"),
            ("aws_secret_access_key", "k"),
            ("LD_PRELOAD", "x.so"),
            ("BASH_FUNC_ls%%", "() { evil; }"),
        ];
        let own = own.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let extra = BTreeMap::from([
            ("GITHUB_TOKEN".to_owned(), "for tools".to_owned()),
            ("BASH_ENV".to_owned(), "x".to_owned()),
        ]);
        let kept: Vec<String> = scrub(own, &extra).into_keys().collect();
        assert_eq!(kept, ["GITHUB_TOKEN", "HOME", "PATH"]);
    }

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
