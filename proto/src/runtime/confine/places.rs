//! The places of the operating system that every worker or command may read. Pure, apart from one look at /etc.
//!
//! An allow list: what is not named does not open. /etc is read name by name for commands, since it also holds keys and
//! passwords; a worker that is not root reads all of it, because a name server that is *replaced* (resolv.conf by DHCP) is a new file, which a
//! rule for the old one does not cover, and a worker lives for weeks.

use std::path::PathBuf;

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read, list, run.
    ReadOnly,
    /// The same, and write, make and remove; no device nodes.
    ReadWrite,
    /// List folders; their files do not open.
    List,
    /// Read, write and control a device.
    Device,
}

/// A path and what may be done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    pub right: Right,
}

impl Place {
    pub fn new(path: impl Into<PathBuf>, right: Right) -> Self {
        Self { path: path.into(), right }
    }
}

/// Programs, libraries and what the kernel tells.
const SYSTEM: [&str; 15] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/home/linuxbrew/.linuxbrew",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/run/systemd/resolve",
];
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// To open a terminal for a command; a command that could would also open those of other people's shells.
const TERMINALS: [&str; 2] = ["/dev/ptmx", "/dev/pts"];

/// What programs read of /etc and what holds no secret. A star at the end stands for the rest of a name.
const ETC: [&str; 75] = [
    "ImageMagick-*",
    "R",
    "X11",
    "alternatives",
    "bash.bashrc",
    "bash_completion*",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "default/locale",
    "dpkg",
    "emacs",
    "ethertypes",
    "fonts",
    "gai.conf",
    "ghostscript",
    "gitattributes",
    "gitconfig",
    "glvnd",
    "gprofng.rc",
    "group",
    "gtk-*",
    "host.conf",
    "hostname",
    "hosts",
    "inputrc",
    "java*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "libaudit.conf",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "mailcap",
    "manpath.config",
    "mime.types",
    "mtab",
    "nanorc",
    "networks",
    "nsswitch.conf",
    "os-release",
    "papersize",
    "passwd",
    "perl",
    "php*",
    "pip.conf",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "profile",
    "profile.d",
    "protocols",
    "python*",
    "resolv.conf",
    "rpc",
    "selinux/config",
    "services",
    "shells",
    "ssh/ssh_config",
    "ssh/ssh_config.d",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "texmf",
    "timezone",
    "vim",
    "xdg",
];

fn read_only(paths: &[&str]) -> Vec<Place> {
    paths.iter().map(|path| Place::new(*path, Right::ReadOnly)).collect()
}

/// What a worker may reach of the system. `root`: it could read the passwords in /etc, so it has the names of a command.
pub fn for_worker<'a>(root: bool, etc: impl Iterator<Item = &'a str>) -> Vec<Place> {
    let mut places = for_tool(etc);
    places.extend(read_only(&["/run/resolvconf"]));
    if !root {
        places.extend(read_only(&["/etc"]));
    }
    places.extend(TERMINALS.iter().map(|path| Place::new(*path, Right::Device)));
    places
}

/// What a command may reach of the system. `etc`: the names in /etc.
pub fn for_tool<'a>(etc: impl Iterator<Item = &'a str>) -> Vec<Place> {
    let mut places = read_only(&SYSTEM);
    places.extend(DEVICES.iter().map(|path| Place::new(*path, Right::Device)));
    places.push(Place::new("/etc", Right::List));
    let plain = ETC.iter().filter(|name| !name.ends_with('*'));
    places.extend(plain.map(|name| Place::new(format!("/etc/{name}"), Right::ReadOnly)));
    let prefixes: Vec<&str> = ETC.iter().filter_map(|name| name.strip_suffix('*')).collect();
    let matching = etc.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    places.extend(matching.map(|name| Place::new(format!("/etc/{name}"), Right::ReadOnly)));
    places
}

/// The names in /etc; none when it cannot be listed.
pub fn etc_names() -> Vec<String> {
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool_reads(path: &str) -> bool {
        let etc = ["python3.11", "shadow", "openclaw", "ssh"];
        let places = for_tool(etc.into_iter());
        places.iter().any(|place| {
            matches!(place.right, Right::ReadOnly | Right::ReadWrite)
                && std::path::Path::new(path).starts_with(&place.path)
        })
    }

    #[test]
    fn a_command_reads_programs_and_no_secrets() {
        for path in
            ["/usr/bin/git", "/etc/ssl/certs/x.pem", "/etc/passwd", "/etc/python3.11/x", "/proc/self/maps"]
        {
            assert!(tool_reads(path), "{path}");
        }
        for path in [
            "/etc/shadow",
            "/etc/ssl/private/key.pem",
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/openclaw/openclaw.json",
            "/root/.ssh/id_ed25519",
            "/home/me/.ssh/id_ed25519",
            "/var/lib/docker",
            "/run/docker.sock",
            "/dev/sda",
            "/dev/pts/3",
            "/tmp/x",
        ] {
            assert!(!tool_reads(path), "{path}");
        }
    }
}
