//! Fields of event records that programs read directly from their context.
//!
//! A tracepoint program may read its context only at constant offsets, but only user space knows the
//! offsets, from the format files. So a program reads each field at a placeholder offset, which this
//! module assigns. Before user space loads the program, it writes the real offset and size into the
//! instruction, or replaces the load by a constant if the event has no such field. A helper call
//! would take about fifty instructions per field.

use crate::{MAX_DETAILS, MAX_SLOTS, NO_OFFSET};

/// A field that a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldId {
    /// The exit reason of `kvm_exit`: its [`Key::code`](crate::Key::code).
    ExitCode,
    /// The `isa` of `kvm_exit`: its [`Key::subcode`](crate::Key::subcode).
    ExitSubcode,
    /// `vcpu_id` of `kvm_exit`.
    ExitVcpu,
    /// `guest_rip` of `kvm_exit`.
    ExitRip,
    /// `vcpu_id` of `kvm_entry`.
    EntryVcpu,
    /// `ns` of `kvm_vcpu_wakeup`.
    WakeupNs,
    /// `prev_state` of `sched_switch`.
    SwitchPrevState,
    /// `next_pid` of `sched_switch`.
    SwitchNextTid,
    /// The [`Key::code`](crate::Key::code) of a detail event.
    DetailCode(usize),
    /// The [`Key::subcode`](crate::Key::subcode) of a detail event.
    DetailSubcode(usize),
    /// `vcpu_id` of the event of a slot.
    SlotVcpu(usize),
    /// The field of the event of a slot that is compared with
    /// [`FilterSettings::values`](crate::FilterSettings::values).
    SlotValue(usize),
    /// The other thread that the event of a slot names: `next_pid` of `sched_switch`, `pid` of
    /// `sched_wakeup`.
    SlotOtherTid(usize),
}

/// Number of different fields.
pub const FIELD_COUNT: usize = 8 + 2 * MAX_DETAILS + 3 * MAX_SLOTS;

/// First placeholder offset. No record is that long. The kernel accepts offsets up to 8191.
const FIRST_PLACEHOLDER: usize = 4096;

impl FieldId {
    /// Returns the number of the field, which is below [`FIELD_COUNT`].
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::ExitCode => 0,
            Self::ExitSubcode => 1,
            Self::ExitVcpu => 2,
            Self::ExitRip => 3,
            Self::EntryVcpu => 4,
            Self::WakeupNs => 5,
            Self::SwitchPrevState => 6,
            Self::SwitchNextTid => 7,
            Self::DetailCode(detail) => 8 + detail,
            Self::DetailSubcode(detail) => 8 + MAX_DETAILS + detail,
            Self::SlotVcpu(slot) => 8 + 2 * MAX_DETAILS + slot,
            Self::SlotValue(slot) => 8 + 2 * MAX_DETAILS + MAX_SLOTS + slot,
            Self::SlotOtherTid(slot) => 8 + 2 * MAX_DETAILS + 2 * MAX_SLOTS + slot,
        }
    }

    /// Returns the placeholder offset of the field.
    #[inline(always)]
    #[must_use]
    pub const fn placeholder(self) -> usize {
        FIRST_PLACEHOLDER + 8 * self.number()
    }

    /// Returns the number of the field with a placeholder offset. `None` for other offsets.
    #[must_use]
    pub const fn number_of_placeholder(offset: usize) -> Option<usize> {
        if offset < FIRST_PLACEHOLDER
            || offset >= FIRST_PLACEHOLDER + 8 * FIELD_COUNT
            || !offset.is_multiple_of(8)
        {
            return None;
        }
        Some((offset - FIRST_PLACEHOLDER) / 8)
    }
}

/// Location of a field in the record of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLocation {
    /// Offset in the record; [`NO_OFFSET`] if the event has no such field.
    pub offset: u32,
    /// Size: 1, 2, 4 or 8 bytes.
    pub bytes: u32,
    /// Value that programs read if the event has no such field.
    pub default_value: u32,
}

impl FieldLocation {
    /// Creates the location of a field that the event does not have.
    #[must_use]
    pub const fn absent(otherwise: u32) -> Self {
        Self {
            offset: NO_OFFSET,
            bytes: 8,
            default_value: otherwise,
        }
    }
}

const _: () = assert!(FIRST_PLACEHOLDER + 8 * FIELD_COUNT <= 8192);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_own_placeholder() {
        let mut seen = [false; FIELD_COUNT];
        let details =
            (0..MAX_DETAILS).flat_map(|it| [FieldId::DetailCode(it), FieldId::DetailSubcode(it)]);
        let of_slot = [FieldId::SlotVcpu, FieldId::SlotValue, FieldId::SlotOtherTid];
        let slots = (0..MAX_SLOTS).flat_map(|it| of_slot.map(|field| field(it)));
        let others = [
            FieldId::ExitCode,
            FieldId::ExitSubcode,
            FieldId::ExitVcpu,
            FieldId::ExitRip,
            FieldId::EntryVcpu,
            FieldId::WakeupNs,
            FieldId::SwitchPrevState,
            FieldId::SwitchNextTid,
        ];
        for field in others.into_iter().chain(details).chain(slots) {
            let number = FieldId::number_of_placeholder(field.placeholder());
            assert_eq!(number, Some(field.number()));
            assert!(
                !core::mem::replace(&mut seen[field.number()], true),
                "{field:?}"
            );
        }
        assert!(seen.iter().all(|it| *it));
        assert_eq!(FieldId::number_of_placeholder(FIRST_PLACEHOLDER - 8), None);
        assert_eq!(
            FieldId::number_of_placeholder(FIRST_PLACEHOLDER + 8 * FIELD_COUNT),
            None
        );
    }
}
