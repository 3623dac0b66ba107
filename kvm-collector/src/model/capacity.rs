//! How much is remembered of a stream of events, at most: whatever a recording says, memory is bounded.
//!
//! Each table has room for a host with 4,096 vCPUs, and is used again where threads and processes end. What finds no
//! room is counted as lost ([`Loss`](super::Loss)), or merged with others; docs/recording.md has the bytes of each
//! table and their sum.

/// Rows of living threads: 32 keys of each of 4,096 vCPUs.
pub const MOST_ROWS: usize = 1 << 17;

/// Living vCPU threads.
pub const MOST_THREADS: usize = 1 << 16;

/// Rows of threads that have ended. Beyond that, the VMs that ended first are merged.
pub const MOST_EXITED_ROWS: usize = 1 << 14;

/// Causes in these rows.
pub const MOST_EXITED_CAUSES: usize = 1 << 18;

/// vCPUs of threads that have ended, and exits that were in progress when they did: as many of each. Beyond that, too,
/// the VMs that ended first are merged.
pub const MOST_EXITED: usize = 1 << 16;

/// Threads and processes of which something small is remembered: a name, a vCPU, whether they are selected.
pub const MOST_NAMED: usize = 1 << 18;

/// Processes with a count of each event.
pub const MOST_COUNTED_VMS: usize = 1 << 15;

/// Text of exits in progress, in bytes.
pub const MOST_EXIT_TEXT_BYTES: usize = 64 << 20;

/// Parts of exits in progress.
pub const MOST_EXIT_PARTS: usize = 1 << 18;

/// Names of exit reasons, addresses and the like that are looked up once.
pub const MOST_KEY_NAMES: usize = 1 << 12;
