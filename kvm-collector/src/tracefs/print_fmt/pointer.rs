//! `%p` and the letters after it that make the kernel print something else than an address.

use super::num::Fault;
use super::number::{Base, Style, decimal, hex_byte, number, pad};
use super::text::hex_bytes;

/// A thing in the record that a `%p` extension prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// `%*ph`: as many bytes as the width says, at most 64.
    Bytes,
    /// As [`Object::Bytes`], with this separator in place of the space.
    BytesBy(&'static [u8]),
    /// `%pM`: a MAC address.
    Mac {
        separator: &'static [u8],
        reversed: bool,
    },
    /// `%pI4`: an IPv4 address; `%pi4` has three digits for each number.
    Ipv4 { padded: bool },
    /// `%pI6`, `%pi6`: an IPv6 address in full.
    Ipv6 { colons: bool },
    /// `%pU`: a UUID.
    Uuid { little_endian: bool, upper: bool },
}

/// What the letters after `%p` ask for.
pub(super) enum Pointer {
    Address,
    Symbol,
    Object(Object),
}

impl Pointer {
    /// Reads the letters; `None` for an extension that cannot be printed from a record.
    pub(super) fn from_letters(letters: &str) -> Option<Pointer> {
        let mac = |separator, reversed| {
            Some(Pointer::Object(Object::Mac {
                separator,
                reversed,
            }))
        };
        let uuid = |little_endian, upper| {
            Some(Pointer::Object(Object::Uuid {
                little_endian,
                upper,
            }))
        };
        match letters {
            "" | "x" | "K" => Some(Pointer::Address),
            "S" | "s" | "B" | "F" | "f" | "SR" | "sR" | "Sb" | "SRb" | "BR" | "Bb" => {
                Some(Pointer::Symbol)
            }
            "h" => Some(Pointer::Object(Object::Bytes)),
            "hC" => Some(Pointer::Object(Object::BytesBy(b":"))),
            "hD" => Some(Pointer::Object(Object::BytesBy(b"-"))),
            "hN" => Some(Pointer::Object(Object::BytesBy(b""))),
            "M" => mac(b":", false),
            "MR" => mac(b":", true),
            "MF" => mac(b"-", false),
            "m" => mac(b"", false),
            "mR" => mac(b"", true),
            "I4" | "I4b" | "I4n" => Some(Pointer::Object(Object::Ipv4 { padded: false })),
            "i4" | "i4b" | "i4n" => Some(Pointer::Object(Object::Ipv4 { padded: true })),
            "I6" => Some(Pointer::Object(Object::Ipv6 { colons: true })),
            "i6" => Some(Pointer::Object(Object::Ipv6 { colons: false })),
            "U" | "Ub" => uuid(false, false),
            "UB" => uuid(false, true),
            "Ul" => uuid(true, false),
            "UL" => uuid(true, true),
            _ => None,
        }
    }
}

/// Appends an address as it is. (The kernel hashes what it prints for `%p`, unless the trace option `hash-ptr` is off;
/// the hash has a secret key, so the plain address is what can be shown.)
pub(super) fn address(out: &mut Vec<u8>, value: u64, style: &Style) {
    let full = Style {
        base: Base::Hex,
        zero: true,
        width: 16,
        ..*style
    };
    let given = Style {
        base: Base::Hex,
        ..*style
    };
    number(out, value, if style.width == 0 { &full } else { &given });
}

/// Appends the address of a kernel symbol, as a kernel without symbol names prints it.
pub(super) fn symbol(out: &mut Vec<u8>, value: u64) {
    number(
        out,
        value,
        &Style {
            base: Base::Hex,
            zero: true,
            alternate: true,
            width: 18,
            ..Style::default()
        },
    );
}

impl Object {
    /// Appends the object at the start of `bytes`. `width` counts for [`Object::Bytes`] only.
    pub(super) fn print(self, out: &mut Vec<u8>, bytes: &[u8], width: usize) -> Result<(), Fault> {
        let first = |length: usize| bytes.get(..length).ok_or(Fault::Truncated);
        match self {
            Object::Bytes => hex_bytes(out, first(width.min(64))?, b" "),
            Object::BytesBy(separator) => hex_bytes(out, first(width.min(64))?, separator),
            Object::Mac {
                separator,
                reversed,
            } => {
                let mut mac = [0; 6];
                mac.copy_from_slice(first(6)?);
                if reversed {
                    mac.reverse();
                }
                hex_bytes(out, &mac, separator);
            }
            Object::Ipv4 { padded } => {
                for (at, byte) in first(4)?.iter().enumerate() {
                    if at > 0 {
                        out.push(b'.');
                    }
                    if padded {
                        pad(
                            out,
                            b'0',
                            usize::from(*byte < 100) + usize::from(*byte < 10),
                        );
                    }
                    decimal(out, u64::from(*byte));
                }
            }
            Object::Ipv6 { colons } => {
                for (at, pair) in first(16)?.chunks(2).enumerate() {
                    if at > 0 && colons {
                        out.push(b':');
                    }
                    hex_bytes(out, pair, b"");
                }
            }
            Object::Uuid {
                little_endian,
                upper,
            } => uuid(out, first(16)?, little_endian, upper),
        }
        Ok(())
    }
}

fn uuid(out: &mut Vec<u8>, bytes: &[u8], little_endian: bool, upper: bool) {
    const LITTLE: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    for (at, place) in LITTLE.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        let place = if little_endian { *place } else { at };
        hex_byte(out, bytes[place], upper);
    }
}
