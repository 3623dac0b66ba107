//! Reads the names of arguments from a Perfetto trace.

use std::collections::BTreeSet;

/// Fields of the messages: `Trace.packet`, `TracePacket.interned_data`, `InternedData.debug_annotation_names`, and
/// `DebugAnnotationName.name`.
const PATH: [u64; 4] = [1, 12, 3, 2];

const LENGTH_DELIMITED: u64 = 2;

/// Returns the names of all arguments of slices and instants.
pub(super) fn argument_names(trace: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect(trace, &PATH, &mut names);
    names
}

/// Collects the texts in the fields of a message to which the path leads.
fn collect(mut message: &[u8], path: &[u64], names: &mut BTreeSet<String>) {
    let Some((field, rest)) = path.split_first() else {
        names.insert(String::from_utf8_lossy(message).into_owned());
        return;
    };
    while !message.is_empty() {
        let tag = varint(&mut message);
        let bytes = match tag & 7 {
            0 => {
                varint(&mut message);
                continue;
            }
            1 => 8,
            5 => 4,
            _ => usize::try_from(varint(&mut message)).expect("a length"),
        };
        let (value, after) = message.split_at(bytes);
        message = after;
        if tag == field << 3 | LENGTH_DELIMITED {
            collect(value, rest, names);
        }
    }
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().expect("a number");
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
