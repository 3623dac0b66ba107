//! What lies behind the end of a record whose length varies.
//!
//! A program copies a fixed number of bytes, since it cannot know how long such a record is. What lies behind the record
//! in the kernel's memory is of other events, which nobody selected: it must not get into files.

use kvm_ebpf_common::{RECORD_RAW_OFFSET, RecordHeader};

use crate::tracefs::{FieldKind, Format};

/// Where the records of each slot say how long they are.
#[derive(Debug)]
pub(super) struct RecordTails {
    slots: Vec<Option<Tail>>,
}

/// Of events with fields of variable length.
#[derive(Debug)]
struct Tail {
    /// The length of the fixed part.
    fixed_bytes: usize,
    /// Where the fields are that say where an array lies, and whether they count from their own end.
    fields: Vec<(usize, bool)>,
}

impl RecordTails {
    /// Of events by their slot.
    pub(super) fn of(events: &[Format]) -> Self {
        let tail = |event: &Format| {
            event.has_dynamic_fields().then(|| Tail {
                fixed_bytes: event.fixed_size(),
                fields: event
                    .fields
                    .iter()
                    .filter(|field| field.is_dynamic())
                    .map(|field| (field.offset, matches!(field.kind, FieldKind::RelLoc { .. })))
                    .collect(),
            })
        };
        Self {
            slots: events.iter().map(tail).collect(),
        }
    }

    /// Zeroes what lies behind the end of a record, which begins with its header.
    #[inline]
    pub(super) fn clear(&self, header: &RecordHeader, record: &mut [u8]) {
        if let Some(Some(tail)) = self.slots.get(usize::from(header.slot))
            && let Some(raw) = record.get_mut(RECORD_RAW_OFFSET..)
        {
            let end = tail.end(raw).min(raw.len());
            raw[end..].fill(0);
        }
    }
}

impl Tail {
    /// Where a record ends.
    fn end(&self, raw: &[u8]) -> usize {
        let mut end = self.fixed_bytes;
        for (offset, is_relative) in &self.fields {
            let word = raw.get(*offset..).and_then(<[u8]>::first_chunk);
            let word = word.map_or(0, |it| u32::from_ne_bytes(*it));
            // The length in the upper half, the place in the lower one (include/trace/stages/stage2_data_offsets.h).
            let (bytes, place) = ((word >> 16) as usize, (word & 0xffff) as usize);
            let base = if *is_relative { offset + 4 } else { 0 };
            end = end.max(base + place + bytes);
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::RECORD_HEADER_BYTES;

    const FORMAT: &str = "name: e\nID: 7\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:__data_loc char[] a;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:__rel_loc u8[] b;\toffset:12;\tsize:4;\tsigned:0;\n\n\
        print fmt: \"%s\", __get_str(a)\n";

    /// A record with 3 bytes for `a` at its offset 16, and so many for `b` behind them; all else is filled up.
    fn record(b_bytes: u32) -> Vec<u8> {
        let mut record = vec![0xaa; RECORD_HEADER_BYTES + 40];
        let raw = &mut record[RECORD_RAW_OFFSET..];
        raw[8..12].copy_from_slice(&(3u32 << 16 | 16).to_ne_bytes());
        raw[12..16].copy_from_slice(&(b_bytes << 16 | 3).to_ne_bytes());
        record
    }

    fn cleared(slot: u16, b_bytes: u32) -> Vec<u8> {
        let tails = RecordTails::of(&[Format::parse("x", FORMAT).unwrap()]);
        let mut record = record(b_bytes);
        let header = RecordHeader {
            slot,
            ..RecordHeader::default()
        };
        tails.clear(&header, &mut record);
        record.split_off(RECORD_RAW_OFFSET)
    }

    #[test]
    fn nothing_of_other_events_is_left_behind_a_record() {
        let raw = cleared(0, 5);
        assert_eq!(raw[16..24], [0xaa; 8], "3 bytes of a, 5 of b");
        assert!(raw[24..].iter().all(|it| *it == 0), "{raw:?}");
    }

    #[test]
    fn a_record_that_was_cut_off_stays_whole() {
        assert!(cleared(0, 5_000)[16..].iter().all(|it| *it == 0xaa));
    }

    #[test]
    fn other_slots_are_left_alone() {
        assert!(cleared(1, 5)[16..].iter().all(|it| *it == 0xaa));
        assert!(cleared(u16::MAX, 5)[16..].iter().all(|it| *it == 0xaa));
    }
}
