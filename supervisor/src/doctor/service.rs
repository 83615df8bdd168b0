//! The user's service, when there is one. From files alone: `doctor` works where systemd does not answer.

use super::{Finding, Severity};
use crate::config::ConfigDisk;
use crate::service::installed::Place;
use crate::service::{Scope, account, systemctl};

pub fn examine(disk: &ConfigDisk) -> Vec<Finding> {
    let place = Place::of(Scope::User, &disk.env, &disk.paths);
    if !place.file.exists() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let shown = place.file.display();
    if place.differs(&disk.env, &disk.paths) {
        let message = "the unit differs from what this version writes";
        let drift = Finding::new("service.drift", Severity::Warning, shown, message);
        let command = format!("{} --force", place.install_command(&disk.paths));
        found
            .push(drift.remedy(format!("run: {command} (keep your own changes in `systemctl --user edit`)")));
    }
    if systemctl::lingers(&disk.env) == Some(false) {
        let (_, user) = account::own();
        let message = format!("the service ends when {user} logs out");
        let linger = Finding::new("service.linger", Severity::Warning, &place.name, message);
        found.push(linger.remedy(format!("run: sudo loginctl enable-linger {user}")));
    }
    found
}
