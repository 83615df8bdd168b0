//! Who listens on a port, for the refusal of a second gateway. Best effort: reads /proc, asks nobody.

use proto::runtime::sys::status_field;
use std::fs;
use std::path::Path;

#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    pub command: String,
}

/// A socket that listens, as the kernel's table has it.
#[derive(Debug, PartialEq, Eq)]
struct Listening {
    uid: u32,
    inode: String,
}

/// The process that listens on this TCP port, when this user may see it. A gateway closes its descriptors to everybody but
/// root; it is told by its name and its user, when there is only one that fits.
pub fn of(port: u16) -> Option<Owner> {
    let sockets: Vec<Listening> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening(table, port)).collect();
    let wanted: Vec<String> = sockets.iter().map(|socket| format!("socket:[{}]", socket.inode)).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut gateways = Vec::new();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(fds) => {
                let mut targets = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
                if targets.any(|target| wanted.iter().any(|socket| target.as_os_str() == socket.as_str())) {
                    return Some(Owner { pid, command: command(pid) });
                }
            }
            Err(_) if is_gateway(pid, &sockets) => gateways.push(pid),
            Err(_) => {}
        }
    }
    match gateways[..] {
        [pid] => Some(Owner { pid, command: command(pid) }),
        _ => None,
    }
}

/// Whether it looks like a gateway of the user whose socket it is.
fn is_gateway(pid: u32, sockets: &[Listening]) -> bool {
    let uid = status_field(Path::new(&format!("/proc/{pid}/status")), "Uid:");
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let serves = arguments.split(|byte| *byte == 0).skip(1).any(|word| word == b"gateway" || word == b"up");
    serves && command(pid) == "openclaw" && sockets.iter().any(|socket| Some(u64::from(socket.uid)) == uid)
}

/// Sockets that listen on the port, from a table of the kernel.
fn listening(table: &str, port: u16) -> Vec<Listening> {
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| listening_socket(line, port)).collect()
}

/// `sl local_address rem_address st … uid timeout inode`; state 0A is LISTEN.
fn listening_socket(line: &str, port: u16) -> Option<Listening> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, hex) = words.get(1)?.rsplit_once(':')?;
    let listens = *words.get(3)? == "0A" && u16::from_str_radix(hex, 16).ok()? == port;
    let (uid, inode) = (words.get(7)?.parse().ok()?, (*words.get(9)?).to_owned());
    listens.then_some(Listening { uid, inode })
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_owner_of_a_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(super::of(port).unwrap().pid, std::process::id());
    }
}
