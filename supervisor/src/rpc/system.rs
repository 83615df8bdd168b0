//! `system.info` in the shape that protocol 4 publishes: the machine below the gateway.

use crate::front::caller::Caller;
use crate::front::scope::ADMIN;
use crate::gateway::Handles;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What the schema `SystemInfoResult` defines, and nothing else. Blocks for some reads of /proc and one look at the disk.
pub(super) fn machine(gw: &Handles, caller: &Caller) -> Value {
    let host = rustix::system::uname();
    let hostname = host.nodename().to_string_lossy().into_owned();
    let release = host.release().to_string_lossy().into_owned();
    let memory = read("/proc/meminfo");
    let about = &gw.about;
    let uptime_ms = u64::try_from(about.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut info = json!({
        "machineName": hostname, "hostname": hostname, "platform": "linux", "release": release,
        "arch": arch(&host.machine().to_string_lossy()),
        "osLabel": os_label(&read("/etc/os-release")).unwrap_or_else(|| format!("Linux {release}")),
        // There is no Node.js: what stands in its place.
        "nodeVersion": format!("none (openclaw {})", about.version),
        "pid": about.pid, "processInstanceId": about.boot_id, "port": about.port(), "uptimeMs": uptime_ms,
        "cpuCount": std::thread::available_parallelism().map_or(1, usize::from),
        "memoryTotalBytes": bytes(&memory, "MemTotal:"), "memoryFreeBytes": bytes(&memory, "MemAvailable:"),
    });
    if let Some(model) = cpu_model(&read("/proc/cpuinfo")) {
        info["cpuModel"] = model.into();
    }
    if let Some(load) = load(&read("/proc/loadavg")) {
        info["loadAverage"] = json!(load);
    }
    let state_dir = &gw.front.paths.state_dir;
    if let Ok(disk) = rustix::fs::statvfs(state_dir) {
        info["diskTotalBytes"] = disk.f_blocks.saturating_mul(disk.f_frsize).into();
        info["diskAvailableBytes"] = disk.f_bavail.saturating_mul(disk.f_frsize).into();
    }
    // Paths are for those who may change things, as in `status`.
    if caller.may(ADMIN) {
        info["diskPath"] = state_dir.display().to_string().into();
    }
    info
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(path)).unwrap_or_default()
}

/// As Node.js names it, which is what clients know.
fn arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_label(os_release: &str) -> Option<String> {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty())
}

/// A line of `meminfo`, which counts in KiB.
fn bytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned()).filter(|model| !model.is_empty())
}

/// Of one, five and fifteen minutes.
fn load(loadavg: &str) -> Option<[f64; 3]> {
    let mut numbers = loadavg.split_whitespace().map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(bytes("MemTotal:  16 kB\nMemAvailable: 8 kB\n", "MemAvailable:"), 8192);
        assert_eq!(load("0.50 0.25 1.00 1/2 3\n"), Some([0.5, 0.25, 1.0]));
        assert_eq!(load("x"), None);
        assert_eq!(os_label("NAME=x\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
        assert_eq!(cpu_model("processor : 0\nmodel name\t: A CPU\n").as_deref(), Some("A CPU"));
        assert_eq!(arch("x86_64"), "x64");
    }
}
