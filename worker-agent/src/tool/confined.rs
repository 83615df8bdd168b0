//! What commands and file tools may reach, put in force where each of them runs: file tools on threads of their own, which
//! are confined like a command; commands in their launcher. So `read` and `cat` are refused the same things.
//!
//! One policy a process, given before the first tool runs. Without one (a worker under test) nothing is confined here.

use std::{io, sync::OnceLock};

use proto::runtime::confine::{self, landlock::Rules};
use proto::wire::isolation::ToolPolicy;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};

use super::{ToolError, launcher::Exit};

/// File tools at work at once: each has a thread for as long as it works.
const THREADS_MAX: usize = 8;
/// How a launcher learns its policy; taken out of the command's environment again.
pub const VARIABLE: &str = "OPENCLAW_EXEC_POLICY";

/// A policy, and whether more than its limits is to be enforced.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Confinement {
    pub policy: ToolPolicy,
    /// False under `isolation.mode: "off"`: limits only.
    pub enforce: bool,
}

struct Installed {
    confinement: Confinement,
    rules: Option<Rules>,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();
static THREADS: Semaphore = Semaphore::const_new(THREADS_MAX);

/// Gives this process its policy. A second one is ignored: rules are never loosened.
pub fn install(confinement: Confinement) -> io::Result<()> {
    let rules = confinement.enforce.then(|| confine::tool_rules(&confinement.policy)).transpose()?;
    let _first_one_stays = INSTALLED.set(Installed { confinement, rules });
    Ok(())
}

/// What was given.
pub fn current() -> Option<&'static Confinement> {
    INSTALLED.get().map(|installed| &installed.confinement)
}

/// Runs file work off the event loop, confined. A refusal tells the key that would allow it.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ToolError> + Send + 'static,
) -> Result<T, ToolError> {
    let cut_short = || ToolError::failed("the file operation was cut short");
    let Some(rules) = INSTALLED.get().and_then(|installed| installed.rules.as_ref()) else {
        return tokio::task::spawn_blocking(work).await.map_err(|_panic_or_shutdown| cut_short())?;
    };
    let _permit = THREADS.acquire().await.map_err(|_never_closed| cut_short())?;
    let failed = |error: io::Error| ToolError::failed(format!("cannot confine a file tool: {error}"));
    let rules = rules.try_clone().map_err(failed)?;
    let (reply, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("file-tool".to_owned()).spawn(move || {
        let result = rules.enforce().map_err(failed).and_then(|_version| work());
        let _caller_is_gone = reply.send(result);
    });
    thread.map_err(failed)?;
    answer.await.map_err(|_panicked| cut_short())?.map_err(told)
}

/// Adds to a refusal of the kernel what it means here.
fn told(error: ToolError) -> ToolError {
    let (Some(confinement), ToolError::Failed(text)) = (current(), &error) else { return error };
    match explain(text, &confinement.policy) {
        Some(why) => ToolError::failed(format!("{text}\n{why}")),
        None => error,
    }
}

/// What a program says when the kernel refuses it a file.
const FILE_WORDS: [&str; 5] =
    ["Permission denied", "permission denied", "Operation not permitted", "EACCES", "EPERM"];
/// … a connection. Few programs name the real reason.
const NETWORK_WORDS: [&str; 14] = [
    "Could not resolve host",
    "could not resolve",
    "unable to resolve",
    "Temporary failure in name resolution",
    "Name or service not known",
    "getaddrinfo",
    "Network is unreachable",
    "Failed to establish a new connection",
    "Couldn't connect to server",
    "socket: Operation not permitted",
    "connect EPERM",
    "dial tcp",
    "EAI_AGAIN",
    "Can't open socket",
];
/// … memory.
const MEMORY_WORDS: [&str; 6] = [
    "MemoryError",
    "Cannot allocate memory",
    "bad_alloc",
    "memory allocation of",
    "heap out of memory",
    "virtual memory exhausted",
];
/// … a process.
const PROCESS_WORDS: [&str; 3] = ["fork: Resource", "Cannot fork", "can't start new thread"];

/// Numbers of the signals for too much processor time and too large a file.
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;
/// A shell tells a signal of its child by this much more.
const SHELL_SIGNAL: i32 = 128;

/// Why a command most likely ended as it did, when a limit or a rule is behind it.
pub fn explain_end(exit: Exit, text: &str, policy: &ToolPolicy) -> Option<String> {
    let signal = match exit {
        // The last part of a command may have succeeded where an earlier one was refused.
        Exit::Code(0) => return explain_refusal(text, policy),
        Exit::Code(code) => code - SHELL_SIGNAL,
        Exit::Signal(number) => number,
    };
    let key = &policy.key;
    match signal {
        SIGXCPU => Some(format!(
            "[isolation: out of processor time: a process of a command may use {} s ({key}.cpu)]",
            policy.cpu_seconds
        )),
        SIGXFSZ => Some("[isolation: a command may write files of 2 GiB at most]".to_owned()),
        _ => explain(text, policy),
    }
}

/// The kernel ended a process of the agent's control group, in which the worker and all of its commands count together. Which
/// one it was is not to be seen.
pub fn explain_memory(policy: &ToolPolicy) -> String {
    format!(
        "[isolation: out of memory: while this ran, the kernel ended a process of this agent: its commands took more together \
         than its control group has. Take less at a time, or ask the operator to raise {}.memoryMb (now {})]",
        policy.key, policy.memory_mb
    )
}

/// How a program tells a refusal: at the end of a line, after its own name or the file's. A text that only speaks of refusals (a
/// page of a manual, a log) is no reason for a note after a command that went well.
fn tells_refusal(line: &str) -> bool {
    let line = line.trim_end();
    ["Permission denied", "Operation not permitted"].iter().any(|words| line.ends_with(&format!(": {words}")))
        || NETWORK_WORDS.iter().any(|words| line.starts_with("curl: (") && line.contains(words))
}

/// The same for a command that ended well.
fn explain_refusal(text: &str, policy: &ToolPolicy) -> Option<String> {
    let refused: Vec<&str> = text.lines().filter(|line| tells_refusal(line)).collect();
    if refused.is_empty() { None } else { explain(&refused.join("\n"), policy) }
}

/// Python's refusal of a call that concerns no file: it would stand behind.
fn names_no_file(line: &str) -> bool {
    line.trim_end().ends_with("PermissionError: [Errno 1] Operation not permitted")
}

/// What words of a failed command or file tool most likely mean under this policy, and the key that changes it.
pub fn explain(text: &str, policy: &ToolPolicy) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let key = &policy.key;
    let mut parts = Vec::new();
    if says(&MEMORY_WORDS) {
        parts.push(format!(
            "out of memory: a process of a command may use {} MiB ({key}.memoryMb)",
            policy.memory_mb
        ));
    }
    if says(&PROCESS_WORDS) {
        parts.push(format!("a command may have {} processes ({key}.processes)", policy.processes));
    }
    if !policy.network && (says(&NETWORK_WORDS) || text.lines().any(names_no_file)) {
        parts.push(format!("commands of this agent have no network ({key}.network: true allows it)"));
    } else if says(&FILE_WORDS) {
        parts.push(format!(
            "this agent may write below {} and $TMPDIR only, and read the system's programs besides; {key}.readOnly opens \
             another path for reading, {key}.readWrite for writing",
            policy.read_write.join(", ")
        ));
    }
    (!parts.is_empty()).then(|| format!("[isolation: {}]", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_key_that_allows_it() {
        let policy = ToolPolicy {
            read_write: vec!["/w".to_owned()],
            memory_mb: 7,
            key: "agents.list[].isolation".to_owned(),
            ..ToolPolicy::default()
        };
        let told = |text: &str| explain(text, &policy).unwrap_or_default();
        assert!(told("touch: cannot touch '/x': Permission denied").contains("isolation.readWrite"));
        assert!(told("curl: (6) Could not resolve host: a.b").contains("isolation.network: true"));
        assert!(told("MemoryError").contains("out of memory") && told("MemoryError").contains("7 MiB"));
        for refused in
            ["Error: connect EPERM 127.0.0.1:1", "PermissionError: [Errno 1] Operation not permitted\n"]
        {
            assert!(told(refused).contains("isolation.network: true"), "{refused}");
        }
        let file = told("PermissionError: [Errno 1] Operation not permitted: '/x'");
        assert!(file.contains("isolation.readWrite"), "{file}");
        assert_eq!(told("all is well"), "");
        let well = |text: &str| explain_end(Exit::Code(0), text, &policy);
        assert!(well("cat: /x: Permission denied\nwent on").is_some_and(|why| why.contains("readOnly")));
        assert_eq!(well("chapter 3, Permission denied and what to do"), None);
        let online = ToolPolicy { network: true, ..policy };
        assert_eq!(explain("Could not resolve host", &online), None);
    }
}
