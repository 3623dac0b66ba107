//! Opens tracefs and reads event formats of the running kernel.

use std::{path::Path, thread, time::Duration};

use anyhow::{anyhow, bail};

use crate::{
    bounds::read_system_file,
    host::privileges::{self, Barrier},
    tracefs::{EventName, EventsError, Format, Tracefs},
};

/// How often to check whether the kvm module has been loaded.
const MODULE_POLL: Duration = Duration::from_millis(100);

/// Opens tracefs of the running kernel. Mounts it if necessary.
pub(super) fn open_tracefs() -> anyhow::Result<Tracefs> {
    let barrier = privileges::tracing_barrier();
    // In confidentiality mode tracefs has no events, even if it can be mounted.
    if let Some(Barrier::Lockdown) = barrier {
        bail!("cannot use tracefs: {}", Barrier::Lockdown);
    }
    Tracefs::find_or_mount().map_err(|error| match barrier {
        Some(barrier) => anyhow!("cannot use tracefs: {barrier}"),
        None => error.into(),
    })
}

/// Opens tracefs of the running kernel, and waits until the kvm module is loaded.
///
/// # Errors
/// If tracefs cannot be used. If the module is not loaded and `no_wait` is set.
pub(super) fn open_tracefs_with_kvm(no_wait: bool) -> anyhow::Result<Tracefs> {
    let tracefs = open_tracefs()?;
    let mut is_waiting = false;
    loop {
        match tracefs.kvm_events() {
            Err(error @ EventsError::KvmNotLoaded(_)) if !no_wait => {
                if !is_waiting {
                    log::warn!("{error}; waiting for it (--no-wait makes this an error)");
                    is_waiting = true;
                }
                thread::sleep(MODULE_POLL);
            }
            Ok(_) if is_loading(is_waiting) => thread::sleep(MODULE_POLL),
            events => {
                events?;
                return Ok(tracefs);
            }
        }
    }
}

/// Returns whether the kvm module is being loaded: it has its events already, but programs cannot be attached to them. The
/// kernel creates the events before the module's folder in sysfs (`load_module`, kernel/module/main.c). If KVM is built into
/// the kernel, its folder has no state.
fn is_loading(is_module: bool) -> bool {
    match read_system_file(Path::new("/sys/module/kvm/initstate")) {
        Ok(state) => state.trim_end() != "live",
        Err(_) => is_module,
    }
}

/// Reads the format of an event of the `kvm` system. Returns `None` if this kernel does not have the
/// event.
pub(super) fn find_kvm_format(tracefs: &Tracefs, name: &str) -> anyhow::Result<Option<Format>> {
    find_format(tracefs, "kvm", name)
}

/// Reads the format of an event. Returns `None` if the event is of the `kvm` system and this kernel does
/// not have it. The events of other systems that the collector needs exist in every kernel.
pub(super) fn find_format(
    tracefs: &Tracefs,
    system: &str,
    name: &str,
) -> anyhow::Result<Option<Format>> {
    let event = EventName::from((system, name));
    if system == "kvm" && !tracefs.kvm_events()?.contains(&event) {
        return Ok(None);
    }
    Ok(Some(tracefs.read_format(&event)?))
}
