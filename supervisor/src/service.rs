//! The gateway as a service of systemd: what its unit says, where it lies, and how systemd is asked.
//!
//! Not here: how the running gateway talks to the service manager (`gateway::sd_notify`), and printing.

pub mod account;
pub mod environment_file;
pub mod installed;
pub mod systemctl;
pub mod unit;

use crate::config::Environment;
use crate::paths::Paths;
use std::path::{Path, PathBuf};

/// Unit of the default profile. Operators of the original know it.
const UNIT_NAME: &str = "openclaw-gateway";

/// Whose service manager runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `systemctl --user`: one user's, without root.
    User,
    /// The host's.
    System,
}

impl Scope {
    /// `systemctl --user` or `systemctl`, as an operator types it.
    pub fn systemctl(self) -> &'static str {
        match self {
            Self::User => "systemctl --user",
            Self::System => "systemctl",
        }
    }
}

/// `openclaw-gateway.service`, `openclaw-gateway-<profile>.service`, or what `OPENCLAW_SYSTEMD_UNIT` says.
pub fn unit_name(env: &Environment, profile: Option<&str>) -> String {
    let named = env.get("OPENCLAW_SYSTEMD_UNIT").map(|name| name.strip_suffix(".service").unwrap_or(name));
    let name = match (named, profile) {
        (Some(name), _) => name.to_owned(),
        (None, Some(profile)) => format!("{UNIT_NAME}-{profile}"),
        (None, None) => UNIT_NAME.to_owned(),
    };
    format!("{name}.service")
}

/// Where the unit's file belongs.
pub fn unit_file(scope: Scope, env: &Environment, paths: &Paths, name: &str) -> PathBuf {
    let folder = match scope {
        Scope::System => PathBuf::from("/etc/systemd/system"),
        Scope::User => {
            let config = env.get("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            config.unwrap_or_else(|| paths.home.join(".config")).join("systemd/user")
        }
    };
    folder.join(name)
}

/// The unit that a running process belongs to, when it is one of ours: read from its control group, so that it holds for
/// whoever asks.
pub fn unit_of(pid: u32) -> Option<(Scope, String)> {
    let groups = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cgroup")).ok()?;
    groups.lines().find_map(unit_of_group)
}

/// `0::/user.slice/user-1000.slice/user@1000.service/app.slice/openclaw-gateway.service/supervisor`.
fn unit_of_group(line: &str) -> Option<(Scope, String)> {
    let path = line.splitn(3, ':').nth(2)?;
    let ours = |part: &&str| part.starts_with(UNIT_NAME) && part.ends_with(".service");
    let name = path.split('/').find(ours)?;
    let of_user = path.split('/').any(|part| part.starts_with("user@"));
    Some((if of_user { Scope::User } else { Scope::System }, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_named_after_its_profile() {
        let none = Environment::default();
        assert_eq!(unit_name(&none, None), "openclaw-gateway.service");
        assert_eq!(unit_name(&none, Some("work")), "openclaw-gateway-work.service");
        let env: Environment = [("OPENCLAW_SYSTEMD_UNIT", "mine.service")].into_iter().collect();
        assert_eq!(unit_name(&env, Some("work")), "mine.service");
    }

    #[test]
    fn a_process_is_found_in_its_unit() {
        let user = "0::/user.slice/user-7.slice/user@7.service/app.slice/openclaw-gateway.service/supervisor";
        assert_eq!(unit_of_group(user), Some((Scope::User, "openclaw-gateway.service".to_owned())));
        let system = "1:name=systemd:/system.slice/openclaw-gateway-dev.service";
        assert_eq!(unit_of_group(system), Some((Scope::System, "openclaw-gateway-dev.service".to_owned())));
        assert_eq!(unit_of_group("0::/user.slice/session-3.scope"), None);
    }
}
