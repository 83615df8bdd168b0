use super::*;
use std::path::Path;

mod bad_files;

fn judged(text: &str, vars: &[(&str, &str)]) -> ConfigFile {
    let env: Environment = vars.iter().copied().collect();
    judge(Path::new("/etc/openclaw/openclaw.json"), text, &env)
}
