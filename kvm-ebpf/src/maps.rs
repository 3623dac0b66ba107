//! Every map, each with the reason for its size. User space shrinks those a command does not use
//! to one entry, and grows those the user asks to grow.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf, Stack},
};
use kvm_ebpf_common::{
    CauseTable, Chunk, CountedThread, RingPosition, Row, RowKey, SlotTable, TimingCounters,
    VcpuThread,
};

/// Counters of all slots, one copy per CPU, where all programs are raw: these are found with fewer instructions. While a
/// system call reads them, the kernel runs no classic tracepoint program on that CPU (`bpf_disable_instrumentation`), but
/// raw ones.
#[map]
pub(crate) static RAW_SLOT_COUNTS: PerCpuArray<SlotTable> = PerCpuArray::with_max_entries(1, 0);

/// Counters of all slots, by CPU, where there are classic programs: user space has them mapped.
#[map]
pub(crate) static SLOT_COUNTS: Array<SlotTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the pairing could not count, by CPU.
#[map]
pub(crate) static PAIRING_COUNTERS: Array<TimingCounters> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Threads that have come and gone: room for some 5,400 until user space reads them.
#[map]
pub(crate) static NOTICES: RingBuf = RingBuf::with_byte_size(4096, 0);

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

/// Threads whose events are counted by themselves (`stat --per-vm`).
#[map]
pub(crate) static COUNTED_THREADS: Array<CountedThread> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Which of `COUNTED_THREADS` a tid is.
#[map]
pub(crate) static COUNTED_THREAD_OF: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// Unused entries of `COUNTED_THREADS`.
#[map]
pub(crate) static FREE_COUNTED_THREADS: Stack<u32> = Stack::with_max_entries(1, 0);

/// Their counters: for each entry, one for each slot in use.
#[map]
pub(crate) static THREAD_COUNTS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The rings of all CPUs, one after the other: events on their way to user space, which reads them in place.
#[map]
pub(crate) static RING_CHUNKS: Array<Chunk> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How far each CPU's ring is written and read.
#[map]
pub(crate) static RING_POSITIONS: Array<RingPosition> = Array::with_max_entries(1, BPF_F_MMAPABLE);
