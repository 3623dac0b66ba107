//! Adapts the instructions of the eBPF programs to this host before they are loaded: writes the real offsets and sizes of fields
//! into them (see [`FieldId`]), and replaces the exchanges that only other processors need.

use kvm_ebpf_common::{FieldId, FieldLocation, NO_OFFSET};
use object::{Object as _, ObjectSection as _, SectionKind};

use crate::timing::FieldLocations;

/// Bytes of an instruction (`struct bpf_insn`, include/uapi/linux/bpf.h): opcode, registers (the destination in the lower
/// half), offset, immediate.
const INSN_BYTES: usize = 8;

/// `BPF_LDX | BPF_MEM` without the length.
const LOAD: u8 = 0x61 & !LENGTH;
/// The bits of an opcode that contain the length of a load.
const LENGTH: u8 = 0x18;
/// `BPF_DW`: 8 bytes.
const DOUBLE_WORD: u8 = 0x18;
/// `BPF_LD | BPF_IMM | BPF_DW`. The next instruction contains the other half of the immediate.
const WIDE: u8 = 0x18;
/// `BPF_ALU | BPF_MOV | BPF_K`: sets the lower 32 bits and clears the others.
const MOVE: u8 = 0xb4;

/// Whether other CPUs may see this processor's writes in another order.
pub(super) const REORDERS_WRITES: bool = cfg!(not(target_arch = "x86_64"));

/// `BPF_STX | BPF_ATOMIC | BPF_DW`.
const ATOMIC: u8 = 0xdb;
/// `BPF_XCHG`, in the immediate of an atomic instruction.
const EXCHANGE: [u8; 4] = 0xe1_u32.to_le_bytes();
/// `BPF_STX | BPF_MEM | BPF_DW`.
const STORE: u8 = 0x7b;

/// Returns a copy of the object in which each load of a placeholder is replaced: by a load of the field, or by a constant if
/// the event has no such field. If this processor keeps the order of writes, each exchange becomes a store. All exchanges are
/// for that order, and none uses the old value; Linux before 5.12 refuses programs that contain one.
///
/// # Errors
/// If the object cannot be parsed.
pub(super) fn bind(object: &[u8], locations: &FieldLocations) -> Result<Vec<u8>, object::Error> {
    let mut bound = object.to_vec();
    for section in object::File::parse(object)?.sections() {
        if section.kind() != SectionKind::Text {
            continue;
        }
        let Some((start, length)) = section.file_range() else {
            continue;
        };
        let range = usize::try_from(start)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(start, length)| Some(start..start.checked_add(length)?));
        if let Some(code) = range.and_then(|range| bound.get_mut(range)) {
            bind_section(code, locations, REORDERS_WRITES);
        }
    }
    Ok(bound)
}

fn bind_section(code: &mut [u8], locations: &FieldLocations, reorders_writes: bool) {
    let mut insns = code.chunks_exact_mut(INSN_BYTES);
    while let Some(insn) = insns.next() {
        if insn[0] == WIDE {
            insns.next();
        } else if insn[0] == ATOMIC && insn[4..8] == EXCHANGE && !reorders_writes {
            insn[0] = STORE;
            insn[4..8].fill(0);
        } else if insn[0] == LOAD | DOUBLE_WORD {
            let offset = i16::from_le_bytes([insn[2], insn[3]]);
            let number = usize::try_from(offset)
                .ok()
                .and_then(FieldId::number_of_placeholder);
            if let Some(location) = number.and_then(|number| locations.by_number(number)) {
                bind_load(insn, location);
            }
        }
    }
}

fn bind_load(insn: &mut [u8], location: &FieldLocation) {
    let offset = u16::try_from(location.offset)
        .ok()
        .filter(|_| location.offset != NO_OFFSET);
    match (offset, length_bits(location.bytes)) {
        (Some(offset), Some(length)) => {
            insn[0] = LOAD | length;
            insn[2..4].copy_from_slice(&offset.to_le_bytes());
        }
        _ => {
            insn[0] = MOVE;
            // No source register, no offset.
            insn[1] &= 0x0f;
            insn[2..4].fill(0);
            insn[4..8].copy_from_slice(&location.default_value.to_le_bytes());
        }
    }
}

/// Returns the bits of an opcode for a load of this length.
fn length_bits(bytes: u32) -> Option<u8> {
    match bytes {
        4 => Some(0x00),
        2 => Some(0x08),
        1 => Some(0x10),
        8 => Some(DOUBLE_WORD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(field: FieldId) -> [u8; 8] {
        let offset = u16::try_from(field.placeholder())
            .expect("below 8192")
            .to_le_bytes();
        // r7 = *(u64 *)(r1 + offset)
        [0x79, 0x17, offset[0], offset[1], 0, 0, 0, 0]
    }

    fn locations() -> FieldLocations {
        FieldLocations::default()
    }

    #[test]
    fn a_load_gets_the_fields_offset_and_length() {
        for (bytes, opcode) in [(1, 0x71), (2, 0x69), (4, 0x61), (8, 0x79)] {
            let mut locations = locations();
            let location = FieldLocation {
                offset: 56,
                bytes,
                default_value: 0,
            };
            locations.set(FieldId::ExitVcpu, location);
            let mut code = load(FieldId::ExitVcpu);
            bind_section(&mut code, &locations, false);
            assert_eq!(code, [opcode, 0x17, 56, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn an_absent_field_is_a_constant() {
        let mut locations = locations();
        locations.set(FieldId::SlotVcpu(3), FieldLocation::absent(u32::MAX));
        let mut code = load(FieldId::SlotVcpu(3));
        bind_section(&mut code, &locations, false);
        assert_eq!(code, [0xb4, 0x07, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn other_instructions_are_not_changed() {
        // A load of a map's value, a load behind all placeholders, a 64-bit constant with a second half that looks like a
        // load, and half an instruction.
        let mut code = vec![0x79, 0x07, 0x28, 0, 0, 0, 0, 0];
        code.extend([0x79, 0x07, 0xf8, 0x7f, 0, 0, 0, 0]);
        code.extend([0x18, 0x01, 0, 0, 1, 2, 3, 4]);
        code.extend(load(FieldId::ExitCode));
        code.extend([0x79, 0x17, 0, 0x10]);
        let before = code.clone();
        bind_section(&mut code, &locations(), false);
        assert_eq!(code, before);
    }

    #[test]
    fn exchanges_become_stores_where_writes_keep_their_order() {
        // r2 = xchg_64(r1 + 8, r2), and lock *(u64 *)(r1 + 8) += r2
        let code = [
            0xdb, 0x21, 8, 0, 0xe1, 0, 0, 0, 0xdb, 0x21, 8, 0, 0, 0, 0, 0,
        ];
        let mut bound = code;
        bind_section(&mut bound, &locations(), true);
        assert_eq!(bound, code);
        bind_section(&mut bound, &locations(), false);
        // *(u64 *)(r1 + 8) = r2
        assert_eq!(bound[..8], [0x7b, 0x21, 8, 0, 0, 0, 0, 0]);
        assert_eq!(bound[8..], code[8..]);
    }

    #[test]
    fn an_invalid_object_is_an_error() {
        assert!(bind(b"no object", &locations()).is_err());
    }
}
