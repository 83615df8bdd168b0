//! Which environment variables a command of a tool may have, as pure rules: the supervisor makes `WorkerConfig::tool_env` by
//! [`choose`], the agent worker refuses what a call adds by [`dangerous`].

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
/// Names by which programs find themselves, their language, their time zone and the network. What is not here may be a
/// secret under any name (`DATABASE_URL`, `GH_PAT`), and a list of such names is never complete.
const USUAL: &[&str] = &[
    "ALL_PROXY",
    "CARGO_HOME",
    "CI",
    "COLORTERM",
    "CURL_CA_BUNDLE",
    "EDITOR",
    "GOPATH",
    "GOROOT",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "JAVA_HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "NODE_EXTRA_CA_CERTS",
    "NO_COLOR",
    "NO_PROXY",
    "NVM_DIR",
    "PAGER",
    "PATH",
    "PNPM_HOME",
    "REQUESTS_CA_BUNDLE",
    "RUSTUP_HOME",
    "RUST_BACKTRACE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
];
/// Prefix of the locale's parts.
const USUAL_PREFIX: &str = "LC_";
/// The gateway's own settings: a command must not find the way to the gateway's state or address.
const OWN_PREFIX: &str = "OPENCLAW_";

/// Is this a name that changes how programs load code?
pub fn dangerous(name: &str) -> bool {
    let upper = name.to_uppercase();
    DANGEROUS.contains(&upper.as_str()) || DANGEROUS_PREFIXES.iter().any(|p| upper.starts_with(p))
}

fn usual(name: &str, value: &str) -> bool {
    let upper = name.to_uppercase();
    let listed = USUAL.contains(&upper.as_str()) || upper.starts_with(USUAL_PREFIX);
    // A proxy's address may carry its password.
    listed && !(upper.ends_with("_PROXY") && value.contains('@'))
}

/// What commands get of the environment: the usual names, and those that the configuration names for them
/// (`agents.*.isolation.env`). Never the gateway's own settings, nor what changes how programs load code.
pub fn choose(own: impl IntoIterator<Item = (String, String)>, named: &[String]) -> BTreeMap<String, String> {
    let wanted = |name: &str, value: &str| usual(name, value) || named.iter().any(|one| one == name);
    let allowed = |name: &str| !dangerous(name) && !name.to_uppercase().starts_with(OWN_PREFIX);
    own.into_iter().filter(|(name, value)| allowed(name) && wanted(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_usual_or_named_is_passed_on() {
        let own = [
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("LC_ALL", "C"),
            ("https_proxy", "http://proxy:3128"),
            ("HTTP_PROXY", "http://me:pass@proxy:3128"),
            ("OPENCLAW_GATEWAY_TOKEN", "t"),
            ("OPENAI_API_KEY", "k"),
            ("DATABASE_URL", "postgres://u:p@h/d"),
            ("GH_TOKEN", "for tools"),
            ("LD_PRELOAD", "x.so"),
            ("BASH_FUNC_ls%%", "() { evil; }"),
        ];
        let own = own.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let named = ["GH_TOKEN", "LD_PRELOAD", "OPENCLAW_GATEWAY_TOKEN", "ABSENT"].map(str::to_owned);
        let kept: Vec<String> = choose(own, &named).into_keys().collect();
        assert_eq!(kept, ["GH_TOKEN", "HOME", "LC_ALL", "PATH", "https_proxy"]);
    }
}
