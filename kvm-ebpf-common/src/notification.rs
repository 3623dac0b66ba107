//! Notifications from the eBPF programs about threads: a thread was added to a table, or has ended.
//! User space then reads the name of a new VM, and frees the entries of ended threads.

use crate::COMM_BYTES;

/// Notification that a thread was added to a table or has ended.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadNotification {
    /// Time of the change, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Index of the thread's entry in the table.
    pub index: u32,
    /// The table and the change: one of [`VCPU_THREAD_ADDED`], [`VCPU_THREAD_ENDED`],
    /// [`COUNTED_THREAD_ADDED`] and [`COUNTED_THREAD_ENDED`].
    pub kind: u32,
    /// Name of the thread, padded with zeros.
    pub comm: [u8; COMM_BYTES],
}

/// A vCPU thread was added to the table of [`VcpuThread`](crate::VcpuThread)s.
pub const VCPU_THREAD_ADDED: u32 = 1;

/// A vCPU thread has ended, or runs another vCPU now. Its [`VcpuThread`](crate::VcpuThread) can be
/// freed when the thread causes no more events.
pub const VCPU_THREAD_ENDED: u32 = 2;

/// A thread was added to the table of [`CountedThread`](crate::CountedThread)s.
pub const COUNTED_THREAD_ADDED: u32 = 3;

/// A thread has ended. Its [`CountedThread`](crate::CountedThread) can be freed when the thread no
/// longer exists.
pub const COUNTED_THREAD_ENDED: u32 = 4;

const _: () = assert!(size_of::<ThreadNotification>() == 40);

crate::pod::pod!(ThreadNotification);
