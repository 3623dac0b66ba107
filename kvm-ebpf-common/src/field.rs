//! Fields of events' records, which programs read straight from their context.
//!
//! The kernel lets a tracepoint program read its context at constant offsets only, and which offset a field
//! has is known to user space only. So a program reads a field as if it lay at the offset that stands
//! for it here, and user space puts the real offset and length into the instruction before it loads
//! the program; where the event has no such field, a constant. A helper that reads memory would cost some
//! fifty instructions a field.

use crate::{MAX_DETAILS, MAX_SLOTS, NO_OFFSET};

/// A field that some program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldId {
    /// The field of `kvm_exit` counted as [`Key::code`](crate::Key::code): why the guest was left.
    ExitCode,
    /// The field of `kvm_exit` counted as [`Key::class`](crate::Key::class).
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
    /// The field of a detail's event counted as [`Key::code`](crate::Key::code).
    DetailCode(usize),
    /// The field of a detail's event counted as [`Key::class`](crate::Key::class).
    DetailSubcode(usize),
    /// The vCPU's index in the record of a slot's event.
    SlotVcpu(usize),
    /// The field of a slot's event that has to have one of
    /// [`FilterSettings::values`](crate::FilterSettings::values).
    SlotValue(usize),
    /// The other thread that the event of a slot is about: `next_pid` of `sched_switch`, `pid` of `sched_wakeup`.
    SlotOtherTid(usize),
}

/// How many there are.
pub const FIELD_COUNT: usize = 8 + 2 * MAX_DETAILS + 3 * MAX_SLOTS;

/// Where they begin. No record is so long, and the kernel takes no offset beyond 8191.
const FIRST_PLACEHOLDER: usize = 4096;

impl FieldId {
    /// Its number, below [`FIELDS`].
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

    /// The offset that stands for it.
    #[inline(always)]
    #[must_use]
    pub const fn placeholder(self) -> usize {
        FIRST_PLACEHOLDER + 8 * self.number()
    }

    /// The number of the field that an offset stands for.
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

/// Where a field really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLocation {
    /// Its offset in the record; [`NO_OFFSET`] where there is no such field.
    pub offset: u32,
    /// Its length: 1, 2, 4 or 8 bytes.
    pub bytes: u32,
    /// What is read where there is no such field.
    pub default_value: u32,
}

impl FieldLocation {
    /// There is no such field, and it reads as this number.
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
    fn every_field_has_a_stand_in_of_its_own() {
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
