//! Read-only global variables of the eBPF programs, which user space writes before it loads them.
//!
//! The kernel freezes them, so the verifier treats them as constants. It removes the code of features
//! that are off, and accepts lengths and offsets that are read from here.

/// Offset of a field that this kernel's event does not have.
pub const NO_OFFSET: u32 = u32::MAX;

/// Maximum number of processes, threads, vCPUs and values in a filter.
pub const MAX_FILTER_IDS: usize = 64;

/// Settings of one slot.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSettings {
    /// Size of the records to emit, including the header: a multiple of 8. 0 emits none.
    pub record_bytes: u32,
    /// Id of the event (`common_type`).
    pub event_id: u32,
    /// Number of bytes after the common fields that are copied word by word. 0 copies the record with a
    /// helper.
    pub copied_bytes: u32,
    /// 1 if a field of the event must have one of [`FilterSettings::values`].
    pub checks_value: u32,
    /// 1 if the event is not a KVM event. It is then selected only for vCPU threads.
    pub vcpu_threads_only: u32,
}

impl SlotSettings {
    /// Settings of an unused slot.
    pub const NONE: Self = Self {
        record_bytes: 0,
        event_id: 0,
        copied_bytes: 0,
        checks_value: 0,
        vcpu_threads_only: 0,
    };
}

/// The selected processes, threads, vCPUs and values. An empty list selects all.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterSettings {
    /// Length of the list `tgids`.
    pub tgid_count: u32,
    /// Length of the list `tids`.
    pub tid_count: u32,
    /// Length of the list `vcpus`.
    pub vcpu_count: u32,
    /// Length of the list `values`.
    pub value_count: u32,
    /// 1 to skip the processes in the map `SKIPPED_PROCESSES`.
    pub skip_processes: u32,
    /// Selected process ids.
    pub tgids: [u32; MAX_FILTER_IDS],
    /// Selected thread ids.
    pub tids: [u32; MAX_FILTER_IDS],
    /// Selected vCPU indices.
    pub vcpus: [u32; MAX_FILTER_IDS],
    /// Selected values for slots with [`SlotSettings::checks_value`]. Here, an empty list selects no event.
    pub values: [u32; MAX_FILTER_IDS],
}

/// Slot number that means "no slot".
pub const NO_SLOT: u32 = u32::MAX;

/// Settings of the programs that time exits.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimingSettings {
    /// Report spans that are longer than this. `u64::MAX` reports none.
    pub slow_ns: u64,
    /// 1 to count exits by reason; 0 to count detail events.
    pub by_reason: u32,
    /// 1 to store the causes of each row.
    pub stores_causes: u32,
    /// [`Key::kind`](crate::Key::kind) of the guest's instruction pointer, if that is the cause; otherwise 0.
    pub rip_kind: u32,
    /// Slot in which `kvm_exit` is also counted and emitted, or [`NO_SLOT`].
    pub exit_slot: u32,
    /// The same for `kvm_entry`.
    pub entry_slot: u32,
    /// The same for `kvm_userspace_exit`.
    pub userspace_exit_slot: u32,
    /// The same for `kvm_vcpu_wakeup`.
    pub wakeup_slot: u32,
    /// Size of the table of threads that last entered a vCPU, minus 1: a mask for its indices. 0 if the table
    /// is not used.
    pub last_thread_mask: u32,
}

/// [`Key::kind`](crate::Key::kind) of the guest's instruction pointer as a cause. The kind of a detail event
/// is its number, from 1.
pub const GUEST_RIP_KIND: u32 = u32::MAX;

/// Maximum number of detail events.
pub const MAX_DETAILS: usize = 8;

/// Settings of one detail event: an event during an exit that gives its cause, such as `kvm_pio`.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailSettings {
    /// Number of bits by which the code is shifted right, for example to count addresses by page.
    pub code_shift: u32,
    /// Bits of the code that are cleared, because they do not tell what is accessed: the number of the general register in a
    /// trap of a system register.
    pub cleared_bits: u32,
    /// Skip events with this subcode; [`NO_SUBCODE`] skips none.
    pub skip_subcode: u32,
    /// [`Key::kind`](crate::Key::kind) if the event is a cause; 0 if the event is counted instead of exits.
    pub kind: u32,
    /// 1 if the event is `kvm_userspace_exit`.
    pub is_userspace_exit: u32,
    /// Slot in which the event is also counted and emitted, or [`NO_SLOT`].
    pub slot: u32,
}

/// Subcode that no event has.
pub const NO_SUBCODE: u32 = 0x8000_0000;

/// Settings of all programs.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GeneralSettings {
    /// Size of a CPU's ring, as a power of two: 2^`ring_shift` bytes.
    pub ring_shift: u32,
    /// 1 to count events per thread as well.
    pub per_thread: u32,
    /// 1 if counting an event depends on the current thread; 0 if every event is counted.
    pub needs_task: u32,
    /// 1 if neither `needs_task` nor `raw_can_nest` is set, so counting programs test only one setting.
    pub plain_increment: u32,
    /// 1 to write log messages.
    pub log: u32,
    /// Number of used slots. A thread has that many counters, if events are counted per thread.
    pub slot_count: u32,
    /// 1 if a raw tracepoint program can interrupt itself, so counters need atomic additions. Linux before 6.1
    /// has no protection against that (`__bpf_trace_run`, kernel/trace/bpf_trace.c).
    pub raw_can_nest: u32,
    /// 1 if the vCPU of a thread is read from the thread's name, because no event of this kernel has it.
    pub names_vcpus: u32,
}

impl FilterSettings {
    /// A filter that selects everything.
    pub const ALL: Self = Self {
        tgid_count: 0,
        tid_count: 0,
        vcpu_count: 0,
        value_count: 0,
        skip_processes: 0,
        tgids: [0; MAX_FILTER_IDS],
        tids: [0; MAX_FILTER_IDS],
        vcpus: [0; MAX_FILTER_IDS],
        values: [0; MAX_FILTER_IDS],
    };
}

impl TimingSettings {
    /// Settings without slots, causes and detail events.
    pub const NONE: Self = Self {
        slow_ns: u64::MAX,
        by_reason: 1,
        stores_causes: 0,
        rip_kind: 0,
        exit_slot: NO_SLOT,
        entry_slot: NO_SLOT,
        userspace_exit_slot: NO_SLOT,
        wakeup_slot: NO_SLOT,
        last_thread_mask: 0,
    };
}

impl DetailSettings {
    /// Returns the code for the value of the field: as `settings` say in a program, where they are read one by one.
    #[inline(always)]
    #[must_use]
    pub const fn code(value: u64, code_shift: u32, cleared_bits: u32) -> u64 {
        let code = value >> code_shift;
        // A program without bits to clear has no instructions for it, because the verifier removes the branch.
        match cleared_bits {
            0 => code,
            bits => code & !(bits as u64),
        }
    }

    /// Settings of an unused detail event.
    pub const NONE: Self = Self {
        code_shift: 0,
        cleared_bits: 0,
        skip_subcode: NO_SUBCODE,
        kind: 0,
        is_userspace_exit: 0,
        slot: NO_SLOT,
    };
}

const _: () = assert!(size_of::<SlotSettings>() == 20);
const _: () = assert!(size_of::<FilterSettings>() == 20 + 4 * 4 * MAX_FILTER_IDS);
const _: () = assert!(size_of::<TimingSettings>() == 40);
const _: () = assert!(size_of::<DetailSettings>() == 24);
const _: () = assert!(size_of::<GeneralSettings>() == 32);

crate::pod::pod!(
    SlotSettings,
    FilterSettings,
    TimingSettings,
    DetailSettings,
    GeneralSettings
);
