//! The unit of this installation: as it should be, and whether it is.

use super::unit::{self, Unit};
use super::{Scope, unit_file, unit_name};
use crate::config::Environment;
use crate::paths::Paths;
use std::io;
use std::path::{Path, PathBuf};

/// Variables that say where things lie: the service must find the same.
const PLACES: [&str; 4] =
    ["OPENCLAW_HOME", "OPENCLAW_STATE_DIR", "OPENCLAW_CONFIG_PATH", "OPENCLAW_OAUTH_DIR"];

/// State directory of the host's service, and the file with its variables.
const SYSTEM_STATE: &str = "/var/lib/openclaw";
pub const SYSTEM_ENVIRONMENT: &str = "/etc/openclaw/service.env";

/// Where an installation is, or would be.
#[derive(Clone, Debug)]
pub struct Place {
    pub scope: Scope,
    /// `openclaw-gateway.service`.
    pub name: String,
    pub file: PathBuf,
}

impl Place {
    pub fn of(scope: Scope, env: &Environment, paths: &Paths) -> Self {
        let name = unit_name(env, paths.profile.as_deref());
        let file = unit_file(scope, env, paths, &name);
        Self { scope, name, file }
    }

    /// The command that installs here.
    pub fn install_command(&self, paths: &Paths) -> String {
        let profile = paths.profile.as_ref().map(|name| format!("--profile {name} ")).unwrap_or_default();
        let system = if self.scope == Scope::System { " --system" } else { "" };
        format!("openclaw {profile}service install{system}")
    }

    /// What the unit says when it is written by this program now.
    ///
    /// # Errors
    /// This program's own path is not known.
    pub fn unit(&self, env: &Environment, paths: &Paths, port: Option<u16>) -> io::Result<Unit> {
        let mut made = unit::packaged(self.scope);
        made.name.clone_from(&self.name);
        made.program = crate::update::place::Place::lasting(&std::env::current_exe()?).display().to_string();
        made.profile.clone_from(&paths.profile);
        made.port = port;
        if self.scope == Scope::System {
            return Ok(made);
        }
        made.environment = vec![("PATH".to_owned(), unit::path(Scope::User))];
        for name in PLACES {
            if let Some(value) = env.get(name) {
                made.environment.push((name.to_owned(), unit::literal(&absolute(value)?)));
            }
        }
        made.environment.extend(unit::marks(&self.name));
        made.environment_file = unit::literal(&environment_file(paths).display().to_string());
        Ok(made)
    }

    /// Whether the unit that is there is another than this program would write.
    pub fn differs(&self, env: &Environment, paths: &Paths) -> bool {
        let Ok(installed) = std::fs::read_to_string(&self.file) else { return false };
        let start = installed.lines().find(|line| line.starts_with("ExecStart="));
        let wanted = self.unit(env, paths, start.and_then(port_of)).ok().and_then(|unit| unit.text().ok());
        wanted.is_some_and(|wanted| wanted != installed)
    }
}

/// File with the variables of a user's service.
pub fn environment_file(paths: &Paths) -> PathBuf {
    paths.state_dir.join("service.env")
}

/// Files whose variables a service of this state directory is given.
pub fn environment_files(paths: &Paths) -> Vec<PathBuf> {
    let of_host = (paths.state_dir == Path::new(SYSTEM_STATE)).then(|| PathBuf::from(SYSTEM_ENVIRONMENT));
    of_host.into_iter().chain([environment_file(paths)]).collect()
}

/// A relative path would mean something else in the service.
fn absolute(text: &str) -> io::Result<String> {
    let path = Path::new(text);
    if path.starts_with("~") {
        return Ok(text.to_owned());
    }
    Ok(std::path::absolute(path)?.display().to_string())
}

fn port_of(line: &str) -> Option<u16> {
    line.split_once(" --port ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::ProfileFlags;

    #[test]
    fn a_changed_unit_is_noticed_and_a_port_is_no_change() {
        let home = tempfile::tempdir().unwrap();
        let env: Environment = [("HOME", home.path().to_str().unwrap())].into_iter().collect();
        let flags = ProfileFlags { profile: Some("work".into()), dev: false };
        let paths = Paths::of_process(&env, &flags).unwrap();
        let place = Place::of(Scope::User, &env, &paths);
        assert!(!place.differs(&env, &paths), "nothing is installed");
        std::fs::create_dir_all(place.file.parent().unwrap()).unwrap();
        let text = place.unit(&env, &paths, Some(19001)).unwrap().text().unwrap();
        std::fs::write(&place.file, &text).unwrap();
        assert!(!place.differs(&env, &paths));
        std::fs::write(&place.file, text.replace("WatchdogSec=30\n", "")).unwrap();
        assert!(place.differs(&env, &paths));
        assert_eq!(place.install_command(&paths), "openclaw --profile work service install");
    }
}
