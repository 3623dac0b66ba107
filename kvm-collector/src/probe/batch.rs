//! Reading a hash map many entries at a time: aya reads one entry with two system calls.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};

/// `BPF_MAP_LOOKUP_BATCH` (include/uapi/linux/bpf.h, since 5.6).
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// Entries asked for at a time. The kernel returns whole buckets and says ENOSPC if one does not fit.
const ENTRIES: u32 = 4096;

/// `struct { ... } batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// All entries of a hash map. One that is being changed meanwhile is read as it is, field by field.
///
/// # Errors
/// As the kernel says.
pub(super) fn read<K: Pod, V: Pod>(map: &MapData) -> io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    let mut keys: Vec<K> = Vec::with_capacity(ENTRIES as usize);
    let mut values: Vec<V> = Vec::with_capacity(ENTRIES as usize);
    // The kernel's place in the map, opaque; a u32 for a hash map.
    let mut place = 0u64;
    let mut first = true;
    loop {
        let mut attr = BatchAttr {
            in_batch: if first { 0 } else { (&raw const place) as u64 },
            out_batch: (&raw mut place) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: ENTRIES,
            map_fd: u32::try_from(map.fd().as_fd().as_raw_fd()).map_err(io::Error::other)?,
            ..BatchAttr::default()
        };
        // SAFETY: the attribute names memory for `count` keys and values of the map's own sizes,
        // which the two types have (they are declared for both halves in one place).
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                &raw mut attr,
                size_of::<BatchAttr>(),
            )
        };
        let error = io::Error::last_os_error();
        // ENOENT: that was the rest.
        let end = result < 0 && error.raw_os_error() == Some(libc::ENOENT);
        if result < 0 && !end {
            return Err(error);
        }
        let count = attr.count.min(ENTRIES) as usize;
        // SAFETY: the kernel has written `count` of each, and any bits are valid for `Pod`.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        entries.extend(keys.drain(..).zip(values.drain(..)));
        if end {
            return Ok(entries);
        }
        first = false;
    }
}
