//! Every map, each with the reason for its size. User space shrinks those a command does not use
//! to one entry, and grows those the user asks to grow.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use kvm_ebpf_common::{
    ExitKey, ExitStats, PairingCounters, SlotCounts, SlotTable, ThreadSlot, ThreadState,
};

/// 0: nothing is counted or shipped. Attaching takes milliseconds an event, and detaching seconds in
/// all; with this, all events are measured over the same time.
#[map]
pub(crate) static RUNNING: Array<u32> = Array::with_max_entries(1, 0);

/// Counters of all slots, one copy per CPU, in one value: one system call reads them all.
#[map]
pub(crate) static SLOT_COUNTS: PerCpuArray<SlotTable> = PerCpuArray::with_max_entries(1, 0);

/// What the pairing could not count.
#[map]
pub(crate) static PAIRING_COUNTERS: PerCpuArray<PairingCounters> =
    PerCpuArray::with_max_entries(1, 0);

/// vCPU threads: 200 VMs of 8 vCPUs are 1,600, and threads come and go.
#[map]
pub(crate) static THREADS: HashMap<u32, ThreadState> = HashMap::with_max_entries(16_384, 0);

/// Totals per (thread, vCPU, isa, reason): 1,600 vCPUs with 20 reasons each.
#[map]
pub(crate) static EXITS: HashMap<ExitKey, ExitStats> = HashMap::with_max_entries(32_768, 0);

/// A zeroed `ExitStats` to insert from: at 416 bytes it is most of the 512-byte BPF stack.
#[map]
pub(crate) static EXIT_SCRATCH: PerCpuArray<ExitStats> = PerCpuArray::with_max_entries(1, 0);

/// Counts per thread and event (`stat --per-vm`).
#[map]
pub(crate) static THREAD_COUNTS: HashMap<ThreadSlot, SlotCounts> =
    HashMap::with_max_entries(65_536, 0);

/// Raw events on their way to user space.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);
