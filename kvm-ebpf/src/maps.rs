//! All maps.
//!
//! Most are declared with one entry. User space sets their sizes before it loads the object: those of
//! maps that a command does not use stay at the minimum.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf, Stack},
};
use kvm_ebpf_common::{
    CauseTable, Chunk, CountedThread, RingPosition, Row, RowKey, SlotTable, TimingCounters,
    VcpuThread,
};

/// Counters of all slots, used if all programs are raw. Its lookup takes fewer instructions than that
/// of [`SLOT_COUNTS`].
///
/// User space reads it by a system call. On the CPU of that call, the kernel skips classic tracepoint
/// programs meanwhile (`bpf_disable_instrumentation`), but not raw ones.
#[map]
pub(crate) static RAW_SLOT_COUNTS: PerCpuArray<SlotTable> = PerCpuArray::with_max_entries(1, 0);

/// Counters of all slots, by CPU number, used if some programs are classic ones. User space maps it.
#[map]
pub(crate) static SLOT_COUNTS: Array<SlotTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters of exits and notifications that could not be recorded, by CPU number.
#[map]
pub(crate) static TIMING_COUNTERS: Array<TimingCounters> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Notifications of new and ended threads.
#[map]
pub(crate) static NOTIFICATIONS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Set of ids of processes that are skipped, because user space has excluded them by name. The
/// values are not used.
#[map]
pub(crate) static SKIPPED_PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// vCPU threads. User space maps this table and the rows, and reads them without a system call.
#[map]
pub(crate) static VCPU_THREADS: Array<VcpuThread> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Index in [`VCPU_THREADS`], by thread id.
#[map]
pub(crate) static VCPU_THREAD_BY_TID: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// Index in [`VCPU_THREADS`] of the thread that was last found on a CPU, by CPU number. It is usually
/// the thread that runs there now.
///
/// This is not a per-CPU array, because before Linux 6.10 the lookup in one is a function call.
#[map]
pub(crate) static LAST_THREAD_ON_CPU: Array<u32> = Array::with_max_entries(1, 0);

/// Index in [`VCPU_THREADS`] plus one of the thread that entered a vCPU last, by
/// [`last_thread_index`](kvm_ebpf_common::last_thread_index).
///
/// It has four times as many entries as there are threads, so that few vCPUs share one.
#[map]
pub(crate) static LAST_THREAD_OF_VCPU: Array<u32> = Array::with_max_entries(1, 0);

/// Indices of the free entries of [`VCPU_THREADS`]. User space pushes all at the start, and those of
/// ended threads later.
#[map]
pub(crate) static FREE_VCPU_THREADS: Stack<u32> = Stack::with_max_entries(1, 0);

/// Exit statistics per thread and key.
#[map]
pub(crate) static ROWS: Array<Row> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Index in [`ROWS`], by thread and key.
#[map]
pub(crate) static ROW_BY_KEY: HashMap<RowKey, u32> = HashMap::with_max_entries(1, 0);

/// Indices of the free entries of [`ROWS`].
#[map]
pub(crate) static FREE_ROWS: Stack<u32> = Stack::with_max_entries(1, 0);

/// Causes of each row, with the same index as in [`ROWS`].
#[map]
pub(crate) static CAUSES: Array<CauseTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Threads with event counters of their own (`stat --per-vm`).
#[map]
pub(crate) static COUNTED_THREADS: Array<CountedThread> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Index in [`COUNTED_THREADS`], by thread id.
#[map]
pub(crate) static COUNTED_THREAD_BY_TID: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// Indices of the free entries of [`COUNTED_THREADS`].
#[map]
pub(crate) static FREE_COUNTED_THREADS: Stack<u32> = Stack::with_max_entries(1, 0);

/// Event counters of counted threads: for each entry of [`COUNTED_THREADS`], one per used slot.
#[map]
pub(crate) static THREAD_COUNTS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Rings of all CPUs, one after the other. User space maps them and reads the records in place.
#[map]
pub(crate) static RING_CHUNKS: Array<Chunk> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Read and write positions of each CPU's ring, by CPU number.
#[map]
pub(crate) static RING_POSITIONS: Array<RingPosition> = Array::with_max_entries(1, BPF_F_MMAPABLE);
