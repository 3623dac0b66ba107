//! Read-only globals that user space writes before load.
//!
//! The kernel freezes them, so the verifier sees constants: what is switched off is removed from the
//! program before it runs, and a length or an offset read from here counts as a constant.

/// "This kernel's event has no such field."
pub const NO_OFFSET: u32 = u32::MAX;

/// How many processes, threads, vCPUs or values a filter can name.
pub const MAX_FILTER_IDS: usize = 64;

/// Of one slot.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSettings {
    /// Length of the records to ship, header included and a multiple of 8; 0 ships nothing.
    pub record_bytes: u32,
    /// The event's id (`common_type`).
    pub event_id: u32,
    /// How many bytes behind the common fields are copied one by one; 0: all there may be, by a helper.
    pub copied_bytes: u32,
    /// 1: a field of the event's record has to have one of [`FilterSettings::values`].
    pub checks_value: u32,
    /// 1: the event is none of KVM's. It is wanted where it is about a vCPU's thread.
    pub vcpu_threads_only: u32,
}

impl SlotSettings {
    /// Of a slot without an event.
    pub const NONE: Self = Self {
        record_bytes: 0,
        event_id: 0,
        copied_bytes: 0,
        checks_value: 0,
        vcpu_threads_only: 0,
    };
}

/// Which events are wanted. A count of 0 means all.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterSettings {
    /// How many of `tgids` are set.
    pub tgid_count: u32,
    /// How many of `tids` are set.
    pub tid_count: u32,
    /// How many of `vcpus` are set.
    pub vcpu_count: u32,
    /// How many of `values` are set.
    pub value_count: u32,
    /// 1: processes that user space has put into the table of skipped ones are not selected.
    pub skip_processes: u32,
    /// Processes.
    pub tgids: [u32; MAX_FILTER_IDS],
    /// Threads.
    pub tids: [u32; MAX_FILTER_IDS],
    /// vCPU indices.
    pub vcpus: [u32; MAX_FILTER_IDS],
    /// Values for events that [`SlotSettings::has_value`]; unlike elsewhere, none means none.
    pub values: [u32; MAX_FILTER_IDS],
}

/// No slot.
pub const NO_SLOT: u32 = u32::MAX;

/// What exits are counted by.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimingSettings {
    /// Report exits (spans) that take longer; `u64::MAX` for none.
    pub slow_ns: u64,
    /// 1: exits are counted by their reason; 0: by events of another kind.
    pub by_reason: u32,
    /// 1: causes are kept for each row.
    pub stores_causes: u32,
    /// [`Key::kind`](crate::Key::kind) of the guest's RIP, where that is the cause; 0 if it is not.
    pub rip_kind: u32,
    /// The slot that `kvm_exit` is counted and shipped under as well, or [`NO_SLOT`].
    pub exit_slot: u32,
    /// The same of `kvm_entry`.
    pub entry_slot: u32,
    /// The same of `kvm_userspace_exit`.
    pub userspace_exit_slot: u32,
    /// The same of `kvm_vcpu_wakeup`.
    pub wakeup_slot: u32,
    /// The last index of the table of who entered a vCPU last, a power of two less 1; 0: nobody is remembered.
    pub last_thread_mask: u32,
}

/// [`Key::kind`](crate::Key::kind) of a guest's RIP as a cause. That of an event is its number among the
/// causes, from 1.
pub const GUEST_RIP_KIND: u32 = u32::MAX;

/// How many kinds of events can say what exits are about, at once.
pub const MAX_DETAILS: usize = 8;

/// An event that happens while the guest is out and says what for.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailSettings {
    /// By how much the code is shifted right: addresses can be counted by their page.
    pub code_shift: u32,
    /// Events of this class are left out; [`NO_CLASS`] for none.
    pub skip_subcode: u32,
    /// [`Key::kind`](crate::Key::kind), if it is a cause; 0: what is counted is these events.
    pub kind: u32,
    /// 1: the event is `kvm_userspace_exit` as well.
    pub is_userspace_exit: u32,
    /// The slot that the event is counted and shipped under as well, or [`NO_SLOT`].
    pub slot: u32,
}

/// A class that no event has.
pub const NO_SUBCODE: u32 = 0x8000_0000;

/// How the programs speak to user space.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GeneralSettings {
    /// A CPU's ring has 2^this many bytes.
    pub ring_shift: u32,
    /// Also count per thread.
    pub per_thread: u32,
    /// 1: an event is counted by the thread it happens in, or by what that is; 0: always.
    pub needs_task: u32,
    /// 1: neither `by_task` nor `interrupts_itself`: programs that only count ask for one number.
    pub plain_increment: u32,
    /// Write diagnostics to the log.
    pub log: u32,
    /// How many slots are in use: as many counters each thread has, where events are counted per thread.
    pub slot_count: u32,
    /// 1: the processor may reorder writes, so publishing takes an instruction that keeps their order.
    pub weakly_ordered: u32,
    /// 1: a raw tracepoint program may interrupt itself (Linux before 6.1 has no guard: `__bpf_trace_run`,
    /// kernel/trace/bpf_trace.c), so counters are added to in one instruction.
    pub raw_can_nest: u32,
}

impl FilterSettings {
    /// Everything is wanted.
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
    /// No field is known.
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
    /// No event.
    pub const NONE: Self = Self {
        code_shift: 0,
        skip_subcode: NO_SUBCODE,
        kind: 0,
        is_userspace_exit: 0,
        slot: NO_SLOT,
    };
}

const _: () = assert!(size_of::<SlotSettings>() == 20);
const _: () = assert!(size_of::<FilterSettings>() == 20 + 4 * 4 * MAX_FILTER_IDS);
const _: () = assert!(size_of::<TimingSettings>() == 40);
const _: () = assert!(size_of::<DetailSettings>() == 20);
const _: () = assert!(size_of::<GeneralSettings>() == 32);

crate::pod::pod!(
    SlotSettings,
    FilterSettings,
    TimingSettings,
    DetailSettings,
    GeneralSettings
);
