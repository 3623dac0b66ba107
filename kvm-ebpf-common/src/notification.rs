//! Notices of threads that are new in a table of the programs, and of threads that have ended: user space reads a VM's name
//! while the VM lives, and frees the entries of what has ended.

use crate::COMM_BYTES;

/// One thread has come or gone.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadNotification {
    /// `CLOCK_MONOTONIC`, in ns: when the entry was made, or the thread ended.
    pub time_ns: u64,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Its entry in the table.
    pub index: u32,
    /// Which table, and what has happened: one of the `NOTICE_` constants.
    pub kind: u32,
    /// The thread's name, filled up with zeros.
    pub comm: [u8; COMM_BYTES],
}

/// A vCPU thread has an entry among the [`VcpuThread`](crate::VcpuThread)s.
pub const VCPU_THREAD_ADDED: u32 = 1;

/// A vCPU thread has ended, or runs another vCPU: its entry among the [`VcpuThread`](crate::VcpuThread)s can be freed once
/// nothing happens in it any more.
pub const VCPU_THREAD_ENDED: u32 = 2;

/// A thread has an entry among the [`CountedThread`](crate::CountedThread)s.
pub const COUNTED_THREAD_ADDED: u32 = 3;

/// A thread has ended: its entry among the [`CountedThread`](crate::CountedThread)s can be freed once the thread is gone.
pub const COUNTED_THREAD_ENDED: u32 = 4;

const _: () = assert!(size_of::<ThreadNotification>() == 40);

crate::pod::pod!(ThreadNotification);
