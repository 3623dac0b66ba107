//! Every map, each with the reason for its size. User space shrinks those a command does not use
//! to one entry, and grows those the user asks to grow.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Stack},
};
use kvm_ebpf_common::{
    CauseTable, Chunk, PairingCounters, RingPosition, Row, RowKey, SlotCounts, SlotTable,
    ThreadSlot, VcpuThread,
};

/// Counters of all slots, one copy per CPU, in one value: one system call reads them all.
#[map]
pub(crate) static SLOT_COUNTS: PerCpuArray<SlotTable> = PerCpuArray::with_max_entries(1, 0);

/// What the pairing could not count.
#[map]
pub(crate) static PAIRING_COUNTERS: PerCpuArray<PairingCounters> =
    PerCpuArray::with_max_entries(1, 0);

/// Processes that user space has decided against, by their names; the value says nothing.
#[map]
pub(crate) static SKIPPED_PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// vCPU threads. User space reads these and the rows in place, without a system call, and sizes them
/// for the vCPUs there are.
#[map]
pub(crate) static THREADS: Array<VcpuThread> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Which of `THREADS` a tid is.
#[map]
pub(crate) static THREAD_OF: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// Which of `THREADS` was on a CPU last, by the CPU's number: mostly the one that is there now. An array, as
/// a look into a per-CPU one is a call of the kernel's (before Linux 6.10).
#[map]
pub(crate) static NEAR_THREAD: Array<u32> = Array::with_max_entries(1, 0);

/// Which of `THREADS` entered a vCPU last (its index and 1), at the [`turn_slot`](kvm_ebpf_common::turn_slot) of process
/// and vCPU. Four times as many as threads, so that few vCPUs share one.
#[map]
pub(crate) static VCPU_TURNS: Array<u32> = Array::with_max_entries(1, 0);

/// Unused places in `THREADS`. User space puts them in, in the beginning and when a thread has ended.
#[map]
pub(crate) static FREE_THREADS: Stack<u32> = Stack::with_max_entries(1, 0);

/// Totals per thread and key.
#[map]
pub(crate) static ROWS: Array<Row> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Which of `ROWS` belongs to a key.
#[map]
pub(crate) static ROW_OF: HashMap<RowKey, u32> = HashMap::with_max_entries(1, 0);

/// Unused places in `ROWS`.
#[map]
pub(crate) static FREE_ROWS: Stack<u32> = Stack::with_max_entries(1, 0);

/// The causes under each of `ROWS`, at the same index.
#[map]
pub(crate) static CAUSES: Array<CauseTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counts per thread and event (`stat --per-vm`).
#[map]
pub(crate) static THREAD_COUNTS: HashMap<ThreadSlot, SlotCounts> =
    HashMap::with_max_entries(65_536, 0);

/// The rings of all CPUs, one after the other: events on their way to user space, which reads them in place.
#[map]
pub(crate) static RING_CHUNKS: Array<Chunk> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How far each CPU's ring is written and read.
#[map]
pub(crate) static RING_POSITIONS: Array<RingPosition> = Array::with_max_entries(1, BPF_F_MMAPABLE);
