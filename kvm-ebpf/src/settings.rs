//! The read-only globals that user space writes before load; see `kvm_ebpf_common::settings`.

use core::ptr::read_volatile;

use kvm_ebpf_common::{
    FilterSettings, MAX_SLOTS, NO_OFFSET, PairingSettings, ShipSettings, SlotSettings,
};

#[unsafe(no_mangle)]
static SLOTS: [SlotSettings; MAX_SLOTS] = [SlotSettings {
    record_bytes: 0,
    vcpu_offset: NO_OFFSET,
    event_id: 0,
    value_offset: NO_OFFSET,
}; MAX_SLOTS];

#[unsafe(no_mangle)]
static FILTER: FilterSettings = FilterSettings::ALL;

#[unsafe(no_mangle)]
static PAIRING: PairingSettings = PairingSettings::NONE;

#[unsafe(no_mangle)]
static SHIP: ShipSettings = ShipSettings {
    wakeup_bytes: 0,
    per_thread: 0,
    log: 0,
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
pub(crate) fn vcpu_offset(slot: usize) -> u32 {
    read!(SLOTS[slot].vcpu_offset)
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
pub(crate) fn value_offset(slot: usize) -> u32 {
    read!(SLOTS[slot].value_offset)
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
pub(crate) fn isa_offset() -> u32 {
    read!(PAIRING.isa_offset)
}

#[inline(always)]
pub(crate) fn reason_offset() -> u32 {
    read!(PAIRING.reason_offset)
}

#[inline(always)]
pub(crate) fn exit_vcpu_offset() -> u32 {
    read!(PAIRING.exit_vcpu_offset)
}

#[inline(always)]
pub(crate) fn entry_vcpu_offset() -> u32 {
    read!(PAIRING.entry_vcpu_offset)
}

#[inline(always)]
pub(crate) fn wakeup_bytes() -> u64 {
    u64::from(read!(SHIP.wakeup_bytes))
}

#[inline(always)]
pub(crate) fn per_thread() -> bool {
    read!(SHIP.per_thread) != 0
}

#[inline(always)]
pub(crate) fn log() -> bool {
    read!(SHIP.log) != 0
}
