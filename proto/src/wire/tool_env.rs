//! Which environment variables a command of a tool may have, as pure rules: the supervisor makes `WorkerConfig::tool_env` by
//! [`scrub`], the agent worker refuses what a call adds by [`dangerous`].

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
/// Names that say "secret" in any program's words; never passed on, though a call may set its own.
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

/// What commands get of this process's environment. `extra` (the configuration's `env.vars` that a policy names) is added
/// unscrubbed, dangerous names excepted.
pub fn scrub(
    own: impl IntoIterator<Item = (String, String)>,
    extra: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let kept = own.into_iter().filter(|(name, _)| !dangerous(name) && !secret(name));
    let added = extra.iter().filter(|(name, _)| !dangerous(name)).map(|(n, v)| (n.clone(), v.clone()));
    kept.chain(added).collect()
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
}
