//! Waits until no program is running.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};
use rustix::thread::{MembarrierCommand, membarrier};

/// Waits until every eBPF program that is running now, on any CPU, has ended. Afterwards their writes are visible.
///
/// Programs run as RCU readers, so `membarrier(MEMBARRIER_CMD_GLOBAL)`, which calls `synchronize_rcu`, waits for them. It
/// fails on kernels with `nohz_full` CPUs (kernel/sched/membarrier.c). Changing a map of maps works there too: the kernel
/// returns when no program can use the old map any more (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c, since 4.20).
///
/// # Errors
/// If both fail.
pub(super) fn wait_for_programs() -> io::Result<()> {
    if let Err(error) = membarrier(MembarrierCommand::Global) {
        log::debug!("membarrier: {error}");
        return change_map_of_maps();
    }
    Ok(())
}

/// Checks that [`wait_for_programs`] has the privileges that it needs.
///
/// # Errors
/// If it has not.
pub(super) fn check_access() -> io::Result<()> {
    let supported = rustix::thread::membarrier_query();
    if supported.contains_command(MembarrierCommand::Global) {
        return Ok(());
    }
    change_map_of_maps()
}

fn change_map_of_maps() -> io::Result<()> {
    let inner = create_map(bpf_map_type::BPF_MAP_TYPE_ARRAY, 8, None)?;
    let outer = create_map(bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, Some(&inner))?;
    let (key, value) = (0u32, inner.as_raw_fd());
    // SAFETY: all bytes of the attribute may be zero.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: these are the fields of this command; key and value live until the call returns.
    let update = unsafe { &mut attr.__bindgen_anon_2 };
    update.map_fd = fd_number(&outer);
    update.key = (&raw const key) as u64;
    update.__bindgen_anon_1.value = (&raw const value) as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Creates an array of one value. For an array of maps, `inner` is an example of the maps in it.
pub(super) fn create_map(
    kind: bpf_map_type,
    value_bytes: u32,
    inner: Option<&OwnedFd>,
) -> io::Result<OwnedFd> {
    // SAFETY: all bytes of the attribute may be zero.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: these are the fields of this command.
    let create = unsafe { &mut attr.__bindgen_anon_1 };
    create.map_type = kind as u32;
    create.key_size = 4;
    create.value_size = value_bytes;
    create.max_entries = 1;
    create.inner_map_fd = inner.map_or(0, fd_number);
    let fd = bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr)?;
    // SAFETY: the descriptor is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn fd_number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Calls the `bpf` system call.
pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_int> {
    // SAFETY: the attribute has the kernel's layout, and the memory that it points to lives until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_waiting_return() {
        wait_for_programs().expect("one of the two works");
        // Only root may create maps.
        match change_map_of_maps() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
