//! Access to the read-only settings that user space writes before it loads the programs. See the
//! `settings` module of `kvm_ebpf_common` for their meaning.

use core::ptr::read_volatile;

use kvm_ebpf_common::{
    CHUNK_BYTES, DetailSettings, FilterSettings, GeneralSettings, MAX_DETAILS, MAX_SLOTS,
    SlotSettings, TimingSettings,
};

#[unsafe(no_mangle)]
static SLOTS: [SlotSettings; MAX_SLOTS] = [SlotSettings::NONE; MAX_SLOTS];

#[unsafe(no_mangle)]
static FILTER: FilterSettings = FilterSettings::ALL;

#[unsafe(no_mangle)]
static TIMING: TimingSettings = TimingSettings::NONE;

#[unsafe(no_mangle)]
static DETAILS: [DetailSettings; MAX_DETAILS] = [DetailSettings::NONE; MAX_DETAILS];

#[unsafe(no_mangle)]
static GENERAL: GeneralSettings = GeneralSettings {
    ring_shift: CHUNK_BYTES.ilog2(),
    per_thread: 0,
    needs_task: 0,
    plain_increment: 0,
    log: 0,
    slot_count: 0,
    raw_can_nest: 0,
    names_vcpus: 0,
};

/// Reads a field of a global. Volatile, because otherwise the compiler would use the initial value.
macro_rules! read {
    ($global:ident $($path:tt)*) => {
        // SAFETY: an integer in a static that is written only before the program is loaded.
        unsafe { read_volatile(&raw const $global $($path)*) }
    };
}

#[inline(always)]
pub(crate) fn record_bytes(slot: usize) -> usize {
    read!(SLOTS[slot].record_bytes) as usize
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "`common_type` is a u16 in the kernel"
)]
pub(crate) fn event_id(slot: usize) -> u16 {
    read!(SLOTS[slot].event_id) as u16
}

#[inline(always)]
pub(crate) fn copied_bytes(slot: usize) -> usize {
    read!(SLOTS[slot].copied_bytes) as usize
}

#[inline(always)]
pub(crate) fn checks_value(slot: usize) -> bool {
    read!(SLOTS[slot].checks_value) != 0
}

#[inline(always)]
pub(crate) fn vcpu_threads_only(slot: usize) -> bool {
    read!(SLOTS[slot].vcpu_threads_only) != 0
}

/// Defines accessors of a list of the filter: for its length, and for an element.
macro_rules! filter_list {
    ($count:ident, $element:ident, $list:ident) => {
        #[inline(always)]
        pub(crate) fn $count() -> u32 {
            read!(FILTER.$count)
        }
        #[inline(always)]
        pub(crate) fn $element(index: usize) -> u32 {
            read!(FILTER.$list[index])
        }
    };
}
filter_list!(tgid_count, tgid, tgids);
filter_list!(tid_count, tid, tids);
filter_list!(vcpu_count, vcpu, vcpus);
filter_list!(value_count, value, values);

#[inline(always)]
pub(crate) fn skip_processes() -> bool {
    read!(FILTER.skip_processes) != 0
}

/// Defines accessors of integers in `TIMING`.
macro_rules! timing {
    ($($field:ident: $type:ty),* $(,)?) => {$(
        #[inline(always)]
        pub(crate) fn $field() -> $type {
            read!(TIMING.$field)
        }
    )*};
}
timing! {
    slow_ns: u64, rip_kind: u32, exit_slot: u32, entry_slot: u32, userspace_exit_slot: u32,
    wakeup_slot: u32, last_thread_mask: u32,
}

#[inline(always)]
pub(crate) fn by_reason() -> bool {
    read!(TIMING.by_reason) != 0
}

#[inline(always)]
pub(crate) fn stores_causes() -> bool {
    read!(TIMING.stores_causes) != 0
}

/// Defines accessors of the elements of `DETAILS`.
macro_rules! detail {
    ($($accessor:ident: $field:ident),* $(,)?) => {$(
        #[inline(always)]
        pub(crate) fn $accessor(detail: usize) -> u32 {
            read!(DETAILS[detail].$field)
        }
    )*};
}
detail! {
    detail_code_shift: code_shift, detail_cleared_bits: cleared_bits, detail_skip_subcode: skip_subcode, detail_kind: kind,
    detail_is_userspace_exit: is_userspace_exit, detail_slot: slot,
}

#[inline(always)]
pub(crate) fn ring_shift() -> u32 {
    read!(GENERAL.ring_shift)
}

#[inline(always)]
pub(crate) fn slot_count() -> u32 {
    read!(GENERAL.slot_count)
}

/// Defines accessors of flags in `GENERAL`.
macro_rules! flags {
    ($($field:ident),* $(,)?) => {$(
        #[inline(always)]
        pub(crate) fn $field() -> bool {
            read!(GENERAL.$field) != 0
        }
    )*};
}
flags! {
    per_thread, needs_task, plain_increment, log, raw_can_nest,
    names_vcpus,
}
