//! Who listens on a port, for the refusal of a second gateway. Best effort: reads /proc, asks nobody.

use std::fs;

#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    pub command: String,
}

/// The process that listens on this TCP port, when this user may see it.
pub fn of(port: u16) -> Option<Owner> {
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening(table, port)).collect();
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let holds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|target| wanted.iter().any(|socket| target.as_os_str() == socket.as_str()))
        });
        holds.then(|| Owner { pid, command: command(pid) })
    })
}

/// Socket inodes that listen on the port, from a table of the kernel.
fn listening(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| listening_inode(line, port)).collect()
}

/// `sl local_address rem_address st … inode`; state 0A is LISTEN.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, hex) = words.get(1)?.rsplit_once(':')?;
    let listens = *words.get(3)? == "0A" && u16::from_str_radix(hex, 16).ok()? == port;
    listens.then(|| words.get(9).map(|inode| (*inode).to_owned()))?
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
