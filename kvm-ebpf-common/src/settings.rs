//! Read-only globals that user space writes before load.
//!
//! The kernel freezes them, so the verifier sees constants: what is switched off is removed from the
//! program before it runs, and a length or an offset read from here counts as a constant.

/// "This kernel's event has no such field."
pub const NO_OFFSET: u32 = u32::MAX;

/// How many processes, threads, vCPUs or values a filter can name.
pub const MAX_FILTER_IDS: usize = 64;

/// How much of a `kvm_exit` record is read at once, from offset 8 on (after the common fields).
/// All of 6.18's fields before `requests` lie within.
pub const EXIT_SPAN_BYTES: usize = 64;

/// Of one slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSettings {
    /// Length of the records to ship, header included and a multiple of 8; 0 ships nothing.
    pub record_bytes: u32,
    /// Where the event's record has the vCPU's index as a u32, or [`NO_OFFSET`].
    pub vcpu_offset: u32,
    /// The event's id (`common_type`).
    pub event_id: u32,
    /// A u32 field of the event's record that has to have one of [`FilterSettings::values`], or
    /// [`NO_OFFSET`].
    pub value_offset: u32,
}

/// Which events are wanted. A count of 0 means all.
#[repr(C)]
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
    /// Processes.
    pub tgids: [u32; MAX_FILTER_IDS],
    /// Threads.
    pub tids: [u32; MAX_FILTER_IDS],
    /// vCPU indices.
    pub vcpus: [u32; MAX_FILTER_IDS],
    /// Values of the field that [`SlotSettings::value_offset`] names; unlike elsewhere, none means none.
    pub values: [u32; MAX_FILTER_IDS],
}

/// Where `kvm_exit` and `kvm_entry` have what the pairing needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairingSettings {
    /// Of the field counted as [`ExitKey::isa`](crate::ExitKey::isa), or [`NO_OFFSET`].
    pub isa_offset: u32,
    /// Of the field counted as [`ExitKey::reason`](crate::ExitKey::reason).
    pub reason_offset: u32,
    /// Of `vcpu_id` in `kvm_exit`, or [`NO_OFFSET`].
    pub exit_vcpu_offset: u32,
    /// Of `vcpu_id` in `kvm_entry`, or [`NO_OFFSET`].
    pub entry_vcpu_offset: u32,
}

/// How the programs speak to user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipSettings {
    /// Wake the reader when this many bytes are waiting; it also looks by itself now and then.
    pub wakeup_bytes: u32,
    /// Also count per thread.
    pub per_thread: u32,
    /// Write diagnostics to the log.
    pub log: u32,
}

impl FilterSettings {
    /// Everything is wanted.
    pub const ALL: Self = Self {
        tgid_count: 0,
        tid_count: 0,
        vcpu_count: 0,
        value_count: 0,
        tgids: [0; MAX_FILTER_IDS],
        tids: [0; MAX_FILTER_IDS],
        vcpus: [0; MAX_FILTER_IDS],
        values: [0; MAX_FILTER_IDS],
    };
}

impl PairingSettings {
    /// No field is known.
    pub const NONE: Self = Self {
        isa_offset: NO_OFFSET,
        reason_offset: NO_OFFSET,
        exit_vcpu_offset: NO_OFFSET,
        entry_vcpu_offset: NO_OFFSET,
    };
}

const _: () = assert!(size_of::<SlotSettings>() == 16);
const _: () = assert!(size_of::<FilterSettings>() == 16 + 4 * 4 * MAX_FILTER_IDS);
const _: () = assert!(size_of::<PairingSettings>() == 16);
const _: () = assert!(size_of::<ShipSettings>() == 12);

crate::pod!(SlotSettings, FilterSettings, PairingSettings, ShipSettings);
