//! Clears the bytes behind the end of records of variable length.
//!
//! A program cannot know the length of such a record, so it copies a fixed number of bytes. The bytes behind the record belong
//! to other events, which may not be selected and must not get into files.

use kvm_ebpf_common::{RECORD_RAW_OFFSET, RecordHeader};

use crate::tracefs::{FieldKind, Format};

/// Finds the ends of the records of each slot.
#[derive(Debug)]
pub(super) struct RecordTails {
    slots: Vec<Option<Tail>>,
}

/// How to find the end of an event with fields of variable length.
#[derive(Debug)]
struct Tail {
    /// Length of the fixed part.
    fixed_bytes: usize,
    /// Offset of each field that describes an array, and whether the array's position is relative to the end of the field.
    fields: Vec<(usize, bool)>,
}

impl RecordTails {
    /// Creates it for events, in the order of their slots.
    pub(super) fn new(events: &[Format]) -> Self {
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

    /// Clears the bytes behind the end of a record, which starts with its header.
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
    /// Returns the offset of a record's end.
    fn end(&self, raw: &[u8]) -> usize {
        let mut end = self.fixed_bytes;
        for (offset, is_relative) in &self.fields {
            let word = raw.get(*offset..).and_then(<[u8]>::first_chunk);
            let word = word.map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            // The upper half is the length, the lower half the position (include/trace/stages/stage2_data_offsets.h).
            let (bytes, position) = ((word >> 16) as usize, (word & 0xffff) as usize);
            let base = if *is_relative { offset + 4 } else { 0 };
            end = end.max(base + position + bytes);
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

    /// Returns a record with 3 bytes for `a` at offset 16, and `b_bytes` bytes for `b` behind them. All other bytes are 0xaa.
    fn record(b_bytes: u32) -> Vec<u8> {
        let mut record = vec![0xaa; RECORD_HEADER_BYTES + 40];
        let raw = &mut record[RECORD_RAW_OFFSET..];
        raw[8..12].copy_from_slice(&(3u32 << 16 | 16).to_ne_bytes());
        raw[12..16].copy_from_slice(&(b_bytes << 16 | 3).to_ne_bytes());
        record
    }

    fn cleared(slot: u16, b_bytes: u32) -> Vec<u8> {
        let tails = RecordTails::new(&[Format::parse("x", FORMAT).unwrap()]);
        let mut record = record(b_bytes);
        let header = RecordHeader {
            slot,
            ..RecordHeader::default()
        };
        tails.clear(&header, &mut record);
        record.split_off(RECORD_RAW_OFFSET)
    }

    #[test]
    fn bytes_behind_a_record_are_cleared() {
        let raw = cleared(0, 5);
        assert_eq!(raw[16..24], [0xaa; 8], "3 bytes of a, 5 of b");
        assert!(raw[24..].iter().all(|byte| *byte == 0), "{raw:?}");
    }

    #[test]
    fn a_truncated_record_is_not_changed() {
        assert!(cleared(0, 5_000)[16..].iter().all(|byte| *byte == 0xaa));
    }

    #[test]
    fn records_of_other_slots_are_not_changed() {
        assert!(cleared(1, 5)[16..].iter().all(|byte| *byte == 0xaa));
        assert!(cleared(u16::MAX, 5)[16..].iter().all(|byte| *byte == 0xaa));
    }
}
