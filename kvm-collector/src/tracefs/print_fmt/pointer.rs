//! The kernel's `%p` extensions. Their letters say what to print in place of an address (see
//! Documentation/core-api/printk-formats.rst).

use crate::tracefs::number::{
    Base, FormatStyle, append_decimal, append_hex_byte, append_hex_bytes, append_number,
    append_padding,
};
use crate::tracefs::record::ValueError;

/// An object in the record that a `%p` extension prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PointerObject {
    /// `%*ph`: bytes in base 16, separated by spaces. The width is their number, at most 64.
    HexBytes,
    /// `%*phC` and similar: as [`PointerObject::HexBytes`], with this separator.
    SeparatedHexBytes(&'static [u8]),
    /// `%pM`: a MAC address.
    Mac {
        separator: &'static [u8],
        reversed: bool,
    },
    /// `%pI4`: an IPv4 address. `padded` (`%pi4`): each number has three digits.
    Ipv4 { padded: bool },
    /// `%pI6` and `%pi6`: an IPv6 address, not shortened.
    Ipv6 { colons: bool },
    /// `%pU`: a UUID.
    Uuid { little_endian: bool, upper: bool },
}

/// What `%p` with its letters prints.
pub(super) enum PointerKind {
    Address,
    Symbol,
    Object(PointerObject),
}

impl PointerKind {
    /// Parses the letters after `%p`. `None` if the extension cannot be printed from a record.
    pub(super) fn from_letters(letters: &str) -> Option<PointerKind> {
        let mac = |separator, reversed| {
            Some(PointerKind::Object(PointerObject::Mac {
                separator,
                reversed,
            }))
        };
        let uuid = |little_endian, upper| {
            Some(PointerKind::Object(PointerObject::Uuid {
                little_endian,
                upper,
            }))
        };
        match letters {
            "" | "x" | "K" => Some(PointerKind::Address),
            "S" | "s" | "B" | "F" | "f" | "SR" | "sR" | "Sb" | "SRb" | "BR" | "Bb" => {
                Some(PointerKind::Symbol)
            }
            "h" => Some(PointerKind::Object(PointerObject::HexBytes)),
            "hC" => Some(PointerKind::Object(PointerObject::SeparatedHexBytes(b":"))),
            "hD" => Some(PointerKind::Object(PointerObject::SeparatedHexBytes(b"-"))),
            "hN" => Some(PointerKind::Object(PointerObject::SeparatedHexBytes(b""))),
            "M" => mac(b":", false),
            "MR" => mac(b":", true),
            "MF" => mac(b"-", false),
            "m" => mac(b"", false),
            "mR" => mac(b"", true),
            "I4" | "I4b" | "I4n" => {
                Some(PointerKind::Object(PointerObject::Ipv4 { padded: false }))
            }
            "i4" | "i4b" | "i4n" => Some(PointerKind::Object(PointerObject::Ipv4 { padded: true })),
            "I6" => Some(PointerKind::Object(PointerObject::Ipv6 { colons: true })),
            "i6" => Some(PointerKind::Object(PointerObject::Ipv6 { colons: false })),
            "U" | "Ub" => uuid(false, false),
            "UB" => uuid(false, true),
            "Ul" => uuid(true, false),
            "UL" => uuid(true, true),
            _ => None,
        }
    }
}

/// Appends an address without hashing it. The kernel hashes addresses with a secret key unless the
/// trace option `hash-ptr` is off.
pub(super) fn append_address(out: &mut Vec<u8>, value: u64, style: &FormatStyle) {
    let full_width = FormatStyle {
        base: Base::Hex,
        zero_pad: true,
        width: 16,
        ..*style
    };
    let given_width = FormatStyle {
        base: Base::Hex,
        ..*style
    };
    append_number(
        out,
        value,
        if style.width == 0 {
            &full_width
        } else {
            &given_width
        },
    );
}

/// Appends the address of a kernel symbol, like a kernel without symbol names (CONFIG_KALLSYMS=n).
pub(super) fn append_symbol_address(out: &mut Vec<u8>, value: u64) {
    append_number(
        out,
        value,
        &FormatStyle {
            base: Base::Hex,
            zero_pad: true,
            alternate: true,
            width: 18,
            ..FormatStyle::default()
        },
    );
}

impl PointerObject {
    /// Appends the object at the start of `bytes`. Only [`PointerObject::HexBytes`] and
    /// [`PointerObject::SeparatedHexBytes`] use `width`.
    pub(super) fn print(
        self,
        out: &mut Vec<u8>,
        bytes: &[u8],
        width: usize,
    ) -> Result<(), ValueError> {
        let first = |length: usize| bytes.get(..length).ok_or(ValueError::Truncated);
        match self {
            PointerObject::HexBytes => append_hex_bytes(out, first(width.min(64))?, b" "),
            PointerObject::SeparatedHexBytes(separator) => {
                append_hex_bytes(out, first(width.min(64))?, separator)
            }
            PointerObject::Mac {
                separator,
                reversed,
            } => {
                let mut mac = [0; 6];
                mac.copy_from_slice(first(6)?);
                if reversed {
                    mac.reverse();
                }
                append_hex_bytes(out, &mac, separator);
            }
            PointerObject::Ipv4 { padded } => {
                for (index, byte) in first(4)?.iter().enumerate() {
                    if index > 0 {
                        out.push(b'.');
                    }
                    if padded {
                        append_padding(
                            out,
                            b'0',
                            usize::from(*byte < 100) + usize::from(*byte < 10),
                        );
                    }
                    append_decimal(out, u64::from(*byte));
                }
            }
            PointerObject::Ipv6 { colons } => {
                for (index, pair) in first(16)?.chunks(2).enumerate() {
                    if index > 0 && colons {
                        out.push(b':');
                    }
                    append_hex_bytes(out, pair, b"");
                }
            }
            PointerObject::Uuid {
                little_endian,
                upper,
            } => append_uuid(out, first(16)?, little_endian, upper),
        }
        Ok(())
    }
}

fn append_uuid(out: &mut Vec<u8>, bytes: &[u8], little_endian: bool, upper: bool) {
    const LITTLE_ENDIAN_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    for (position, little_endian_index) in LITTLE_ENDIAN_ORDER.into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        let index = if little_endian {
            little_endian_index
        } else {
            position
        };
        append_hex_byte(out, bytes[index], upper);
    }
}
