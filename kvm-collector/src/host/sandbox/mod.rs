//! Restricts this process to what its command still needs.
//!
//! The collector starts with the privileges of tracing, and later parses files and formats text of guests. [`enter`] gives up
//! what is not needed for that. Each layer works without the others, and a layer that the kernel does not have is left out:
//!
//! - capabilities: all are dropped, except those without which something fails that the command still does ([`capabilities`])
//! - `no_new_privs`: no program that is run later gets more privileges
//! - Landlock: only the files of the command can be opened ([`landlock`])
//! - seccomp: only the system calls that commands use are allowed ([`seccomp`])
//!
//! Capabilities and Landlock apply to the calling thread, and to those that it starts later. So a command enters the sandbox
//! before it starts threads.

mod capabilities;
mod landlock;
mod needs;
mod seccomp;
mod status;
mod system_calls;

use std::{fs::File, io, path::Path, sync::OnceLock};

pub use needs::{Measurement, Needs};
pub use status::{InForce, Layer};

use caps::Capability;

use super::local_time;
use seccomp::Profile;

static IN_FORCE: OnceLock<InForce> = OnceLock::new();

/// Returns what is in force; `None` if the process has not entered the sandbox.
#[must_use]
pub fn in_force() -> Option<&'static InForce> {
    IN_FORCE.get()
}

/// Opens a file that the user has named for reading. A user whose binary has file capabilities opens it without them.
///
/// # Errors
/// If the file cannot be opened, or capabilities cannot be changed.
pub fn open_as_caller(path: &Path) -> io::Result<File> {
    capabilities::as_caller(|| File::open(path)).map_err(io::Error::other)?
}

/// Restricts this process to what it needs. That cannot be undone. A layer that cannot be applied is not an error; see
/// [`in_force`].
pub fn enter(mut needs: Needs<'_>) -> &'static InForce {
    // The file of the time zone may not be readable later.
    let _ = local_time::zone();
    let measurement = needs.measurement.as_ref();
    let is_measurement = measurement.is_some();
    let lists_vms = measurement.is_some_and(|it| it.lists_vms);
    let ends_command = measurement.is_some_and(|it| it.ends_command);
    // The kernel ends the process that lists VMs with a signal from this process.
    let signals_others = is_measurement || needs.stops_group;
    let files = needs.files();
    let capabilities = capabilities::drop_unneeded(&mut needs.tasks(&files));
    let inspects = |kept: &Vec<Capability>| kept.contains(&Capability::CAP_SYS_PTRACE);
    let inspects_others = lists_vms || capabilities.as_ref().is_ok_and(inspects);
    let no_new_privs = rustix::thread::set_no_new_privs(true);
    // Landlock lets a process inspect only processes that have the same restrictions.
    let landlock = match inspects_others {
        true => Layer::Off("other processes have to be inspected".to_owned()),
        false => landlock::restrict(&files, signals_others),
    };
    let seccomp = seccomp::restrict(Profile {
        is_measurement,
        inspects_others,
        ends_command,
        stops_group: needs.stops_group,
    });
    IN_FORCE.get_or_init(|| InForce {
        capabilities,
        no_new_privs: no_new_privs.map_err(|error| io::Error::from(error).to_string()),
        landlock,
        seccomp,
    })
}
