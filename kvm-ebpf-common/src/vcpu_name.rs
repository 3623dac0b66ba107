//! The index of a vCPU in the name of its thread.
//!
//! The events of some kernels do not have the index: `kvm_exit` and `kvm_entry` have no `vcpu_id` on arm64. VMMs name
//! their vCPU threads by it, so it is read from there. A name that says nothing leaves the index unknown.

use crate::{COMM_BYTES, VCPU_UNKNOWN};

/// A thread name (comm) as a number: byte 0 is the lowest. A name that is in registers can be read without indexing, which
/// the kernel's verifier would have to check.
type CommWord = u128;

/// What VMMs put before the index.
const QEMU: Prefix = Prefix::new(b"CPU ");
const OTHERS: [Prefix; 4] = [
    Prefix::new(b"fc_vcpu "),
    Prefix::new(b"crosvm_vcpu"),
    // kvmtool.
    Prefix::new(b"kvm-vcpu-"),
    // Cloud Hypervisor.
    Prefix::new(b"vcpu"),
];

/// What QEMU puts behind the index. The threads of its emulator end with `/TCG`.
const QEMU_SUFFIX: CommWord = Prefix::new(b"/KVM").word;

/// No index has more digits.
const MAX_DIGITS: usize = 10;

#[derive(Clone, Copy)]
struct Prefix {
    word: CommWord,
    bits: usize,
}

impl Prefix {
    const fn new(text: &[u8]) -> Self {
        let (mut word, mut bits) = (0, 0);
        while bits < 8 * text.len() {
            word |= (text[bits / 8] as CommWord) << bits;
            bits += 8;
        }
        Self { word, bits }
    }

    /// Returns what is behind the prefix.
    #[inline(always)]
    fn strip(self, name: CommWord) -> Option<CommWord> {
        let mask = (1 << self.bits) - 1;
        (name & mask == self.word).then_some(name >> self.bits)
    }
}

/// Returns the vCPU index in a thread name that VMMs use only for vCPU threads; otherwise [`VCPU_UNKNOWN`]. The name is
/// padded with zeros.
#[inline(always)]
#[must_use]
pub fn vcpu_index_in_comm(comm: &[u8; COMM_BYTES]) -> u32 {
    let name = CommWord::from_le_bytes(*comm);
    if let Some(rest) = QEMU.strip(name) {
        return parse_index(rest, QEMU_SUFFIX);
    }
    let [firecracker, crosvm, kvmtool, cloud_hypervisor] = OTHERS;
    let rest = (firecracker.strip(name))
        .or_else(|| crosvm.strip(name))
        .or_else(|| kvmtool.strip(name))
        .or_else(|| cloud_hypervisor.strip(name));
    rest.map_or(VCPU_UNKNOWN, |rest| parse_index(rest, 0))
}

/// As [`vcpu_index_in_comm`], for a name as text. `None` if the name says nothing.
#[must_use]
pub fn vcpu_index_in_name(name: &str) -> Option<u32> {
    let mut comm = [0; COMM_BYTES];
    // The kernel's names are shorter: a longer one is not a name of the kernel.
    let bytes = name.as_bytes();
    comm.get_mut(..bytes.len())?.copy_from_slice(bytes);
    match vcpu_index_in_comm(&comm) {
        VCPU_UNKNOWN => None,
        index => Some(index),
    }
}

/// Parses a decimal number that is followed by `suffix` and the end of the name.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lowest byte is wanted, and the number is checked"
)]
fn parse_index(mut rest: CommWord, suffix: CommWord) -> u32 {
    let (mut number, mut digits) = (0_u64, 0);
    while digits < MAX_DIGITS {
        let digit = (rest as u8).wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = 10 * number + digit as u64;
        rest >>= 8;
        digits += 1;
    }
    if digits == 0 || rest != suffix || number >= VCPU_UNKNOWN as u64 {
        return VCPU_UNKNOWN;
    }
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_read_from_the_names_of_vcpu_threads() {
        for (name, index) in [
            ("CPU 0/KVM", Some(0)),
            ("CPU 4095/KVM", Some(4095)),
            ("fc_vcpu 12", Some(12)),
            ("crosvm_vcpu7", Some(7)),
            ("kvm-vcpu-3", Some(3)),
            ("vcpu007", Some(7)),
            ("vcpu4294967294", Some(u32::MAX - 1)),
        ] {
            assert_eq!(vcpu_index_in_name(name), index, "{name}");
        }
    }

    #[test]
    fn other_names_say_nothing() {
        for name in [
            "",
            "CPU /KVM",
            "CPU x/KVM",
            "CPU 1/TCG",
            "CPU 1/KVM ",
            "CPU 1",
            "CPU 1/KVM/2",
            "vcpu",
            "vcpu 1",
            "vcpu+1",
            "vcpu1x",
            "vcpu4294967295",
            "vcpu4294967296",
            "vcpu00000000001",
            "my-vcpu1",
            "qemu-system-aar",
            "CPU 1/KVM-is-no-name-of-the-kernel",
        ] {
            assert_eq!(vcpu_index_in_name(name), None, "{name}");
        }
    }

    #[test]
    fn every_name_is_read_to_its_end() {
        // Without a zero at the end.
        assert_eq!(vcpu_index_in_comm(b"crosvm_vcpu12345"), 12345);
        assert_eq!(vcpu_index_in_comm(b"CPU 12345678/KVM"), 12_345_678);
        assert_eq!(
            vcpu_index_in_comm(b"vcpu1\0\0\0\0\0\0\0\0\0\0x"),
            VCPU_UNKNOWN
        );
    }
}
