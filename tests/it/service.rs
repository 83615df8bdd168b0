//! The gateway under a service manager, in a container, and behind a tunnel.

mod container;
mod install;
mod journald;
mod notify;
mod tunnel;
