//! Starts `openclaw` as it would run on a kernel without Landlock: the three calls do not exist for it and for what it starts.
//! The program is the one beside this file; arguments and environment are handed on.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() -> anyhow::Result<()> {
    let calls =
        [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch)?.try_into()?;
    seccompiler::apply_filter(&filter)?;
    let program = std::env::current_exe()?.with_file_name("openclaw");
    Err(Command::new(&program).args(std::env::args_os().skip(1)).exec().into())
}
