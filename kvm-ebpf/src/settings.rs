//! The read-only globals that user space writes before load; see `kvm_ebpf_common::settings`.

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
static PAIRING: TimingSettings = TimingSettings::NONE;

#[unsafe(no_mangle)]
static DETAILS: [DetailSettings; MAX_DETAILS] = [DetailSettings::NONE; MAX_DETAILS];

#[unsafe(no_mangle)]
static SHIP: GeneralSettings = GeneralSettings {
    ring_shift: CHUNK_BYTES.ilog2(),
    per_thread: 0,
    needs_task: 0,
    plain_increment: 0,
    log: 0,
    slot_count: 0,
    weakly_ordered: 0,
    raw_can_nest: 0,
};

/// Reads a field of a global. Volatile, or the compiler would use the initial value above.
macro_rules! read {
    ($global:ident $($path:tt)*) => {
        // SAFETY: a static of plain integers, written only before the program is loaded.
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
pub(crate) fn has_value(slot: usize) -> bool {
    read!(SLOTS[slot].checks_value) != 0
}

#[inline(always)]
pub(crate) fn of_vcpus(slot: usize) -> bool {
    read!(SLOTS[slot].vcpu_threads_only) != 0
}

/// A list of ids in the filter: how many there are, and each.
macro_rules! filter_list {
    ($count:ident, $get:ident, $count_field:ident, $list_field:ident) => {
        #[inline(always)]
        pub(crate) fn $count() -> u32 {
            read!(FILTER.$count_field)
        }
        #[inline(always)]
        pub(crate) fn $get(index: usize) -> u32 {
            read!(FILTER.$list_field[index])
        }
    };
}
filter_list!(tgid_count, tgid, tgid_count, tgids);
filter_list!(tid_count, tid, tid_count, tids);
filter_list!(vcpu_count, vcpu, vcpu_count, vcpus);
filter_list!(value_count, value, value_count, values);

#[inline(always)]
pub(crate) fn skip_processes() -> bool {
    read!(FILTER.skip_processes) != 0
}

/// A field of `PAIRING`.
macro_rules! pairing {
    ($($field:ident: $type:ty),* $(,)?) => {$(
        #[inline(always)]
        pub(crate) fn $field() -> $type {
            read!(PAIRING.$field)
        }
    )*};
}
pairing! {
    slow_ns: u64, rip_kind: u32, exit_slot: u32, entry_slot: u32, userspace_exit_slot: u32, wakeup_slot: u32,
    last_thread_mask: u32,
}

#[inline(always)]
pub(crate) fn by_reason() -> bool {
    read!(PAIRING.by_reason) != 0
}

#[inline(always)]
pub(crate) fn causes() -> bool {
    read!(PAIRING.stores_causes) != 0
}

/// A field of one of `DETAILS`.
macro_rules! detail {
    ($($get:ident: $field:ident),* $(,)?) => {$(
        #[inline(always)]
        pub(crate) fn $get(detail: usize) -> u32 {
            read!(DETAILS[detail].$field)
        }
    )*};
}
detail! {
    detail_code_shift: code_shift, detail_skip_class: skip_subcode, detail_kind: kind,
    detail_is_user: is_userspace_exit, detail_slot: slot,
}

#[inline(always)]
pub(crate) fn ring_shift() -> u32 {
    read!(SHIP.ring_shift)
}

#[inline(always)]
pub(crate) fn per_thread() -> bool {
    read!(SHIP.per_thread) != 0
}

#[inline(always)]
pub(crate) fn by_task() -> bool {
    read!(SHIP.needs_task) != 0
}

#[inline(always)]
pub(crate) fn counts_simply() -> bool {
    read!(SHIP.plain_increment) != 0
}

#[inline(always)]
pub(crate) fn log() -> bool {
    read!(SHIP.log) != 0
}

#[inline(always)]
pub(crate) fn slots() -> u32 {
    read!(SHIP.slot_count)
}

#[inline(always)]
pub(crate) fn reorders_writes() -> bool {
    read!(SHIP.weakly_ordered) != 0
}

#[inline(always)]
pub(crate) fn interrupts_itself() -> bool {
    read!(SHIP.raw_can_nest) != 0
}
