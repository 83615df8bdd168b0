//! Places where a test build dies on purpose. Empty functions in every other build.
//!
//! Actions, in the syntax of the `fail` crate (`name=return(kill);other=2*off->return(torn(40))`): `kill` (SIGKILL),
//! `abort`, `stop` (SIGSTOP), `spin` (the thread never gets any further), `panic` (of the task that is there), `torn(n)` (the writer writes n bytes and dies).

/// Arms the failpoints that a test passed; refused text is reported on standard error.
pub fn arm(spec: &str) {
    #[cfg(feature = "failpoints")]
    armed::arm(spec);
    #[cfg(not(feature = "failpoints"))]
    let _ = spec;
}

/// Acts when the failpoint is armed.
#[inline]
pub fn hit(name: &str) {
    #[cfg(feature = "failpoints")]
    armed::hit(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// How many bytes a writer has to write before it calls [`die`]; `None` nearly always.
#[inline]
pub fn torn(name: &str) -> Option<usize> {
    #[cfg(feature = "failpoints")]
    return armed::torn(name);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        None
    }
}

/// Why a step that may fail has to fail here (`refuse(<why>)`); `None` nearly always.
#[inline]
pub fn refusal(name: &str) -> Option<String> {
    #[cfg(feature = "failpoints")]
    return armed::refusal(name);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        None
    }
}

/// By how much the clock is to be off here (`skew(<seconds>)`), in milliseconds; 0 nearly always.
#[inline]
pub fn skew_ms(name: &str) -> i64 {
    #[cfg(feature = "failpoints")]
    return armed::skew_ms(name);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        0
    }
}

/// The end of a torn write: as if the power went away.
pub fn die() {
    super::sys::kill_self(nix::sys::signal::Signal::SIGKILL);
}

#[cfg(feature = "failpoints")]
mod armed {
    use nix::sys::signal::Signal;

    pub(super) fn arm(spec: &str) {
        for point in spec.split(';').map(str::trim).filter(|point| !point.is_empty()) {
            let result = match point.split_once('=') {
                Some((name, action)) => fail::cfg(name.trim(), action.trim()),
                None => Err("no `=`".into()),
            };
            if let Err(error) = result {
                tracing::error!(point, error, "failpoint not armed");
            }
        }
    }

    fn action(name: &str) -> Option<String> {
        fail::eval(name, |argument| argument).flatten()
    }

    pub(super) fn hit(name: &str) {
        match action(name).as_deref() {
            Some("kill") => crate::runtime::sys::kill_self(Signal::SIGKILL),
            Some("stop") => crate::runtime::sys::kill_self(Signal::SIGSTOP),
            Some("abort") => std::process::abort(),
            Some("spin") => loop {
                std::hint::spin_loop();
            },
            Some("panic") => std::panic::panic_any("failpoint panics"),
            Some(other) => tracing::error!(name, other, "failpoint has an unknown action"),
            None => {}
        }
    }

    pub(super) fn refusal(name: &str) -> Option<String> {
        Some(action(name)?.strip_prefix("refuse(")?.strip_suffix(')')?.to_owned())
    }

    pub(super) fn skew_ms(name: &str) -> i64 {
        let seconds = action(name)
            .and_then(|action| action.strip_prefix("skew(")?.strip_suffix(')')?.parse::<i64>().ok());
        seconds.unwrap_or(0).saturating_mul(1000)
    }

    pub(super) fn torn(name: &str) -> Option<usize> {
        action(name)?.strip_prefix("torn(")?.strip_suffix(')')?.parse().ok()
    }
}
