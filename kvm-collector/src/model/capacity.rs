//! Capacities of the tables that user space fills from a stream of events. They bound memory,
//! whatever a recording contains.
//!
//! Each table is large enough for a host with 4,096 vCPUs, and entries are reused when threads and
//! processes end. If a table is full, new entries are counted as lost ([`Loss`](super::Loss)) or
//! merged with others. docs/recording.md lists the size of each table in bytes.

/// Rows of running threads: 32 keys for each of 4,096 vCPUs.
pub const MAX_ROWS: usize = 1 << 17;

/// Running vCPU threads.
pub const MAX_THREADS: usize = 1 << 16;

/// Rows of exited threads. Beyond that, the VMs that ended first are merged.
pub const MAX_EXITED_ROWS: usize = 1 << 14;

/// Causes in all rows of exited threads.
pub const MAX_EXITED_CAUSES: usize = 1 << 18;

/// vCPUs of exited threads; also the exits that were in progress when their threads ended. Beyond
/// that, the VMs that ended first are merged.
pub const MAX_EXITED_VCPUS: usize = 1 << 16;

/// Threads or processes in each table of names, vCPU indices or selection decisions.
pub const MAX_KNOWN_TASKS: usize = 1 << 18;

/// Processes for which each event is counted.
pub const MAX_COUNTED_VMS: usize = 1 << 15;

/// Rows of an `exits` report on several recordings.
pub const MAX_MERGED_ROWS: usize = 1 << 18;

/// Shares of single hosts in these rows, if the rows are about all hosts.
pub const MAX_HOST_SHARES: usize = 1 << 20;

/// vCPUs of an `exits` report, and VMs of a `stat` report on several recordings.
pub const MAX_MERGED_VCPUS: usize = 1 << 20;

/// Bytes of text that is stored for exits in progress.
pub const MAX_EXIT_TEXT_BYTES: usize = 64 << 20;

/// Parts of exits in progress, over all threads.
pub const MAX_EXIT_PARTS: usize = 1 << 18;

/// Cached names of exit reasons, addresses and other codes.
pub const MAX_KEY_NAMES: usize = 1 << 12;
