//! Formats integers like `number()` in the kernel's lib/vsprintf.c, and arrays of them.
//!
//! The kernel's format differs from the C library's in three ways: the `#` flag adds `0x` also to
//! zero, zero is printed even with precision 0, and the `0` flag pads to the width even if there is a
//! precision.

use super::{ctype::CType, record::read_int};

/// The flags, width and precision of a printf conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FormatStyle {
    pub(super) base: Base,
    /// The `-` flag.
    pub(super) left_align: bool,
    /// The `+` flag.
    pub(super) plus_sign: bool,
    /// The space flag.
    pub(super) space_sign: bool,
    /// The `#` flag.
    pub(super) alternate: bool,
    /// The `0` flag.
    pub(super) zero_pad: bool,
    pub(super) uppercase: bool,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Base {
    /// Base 10, signed.
    Signed,
    /// Base 10, unsigned.
    #[default]
    Decimal,
    Octal,
    Hex,
}

/// The digits of a number, at the end of a buffer that is otherwise filled with `0`. The longest
/// number has 22 digits (base 8).
struct Digits {
    buffer: [u8; 24],
    start: usize,
}

/// Appends `value`, formatted in this style.
pub(super) fn append_number(out: &mut Vec<u8>, value: u64, style: &FormatStyle) {
    let negative = style.base == Base::Signed && value.cast_signed() < 0;
    let magnitude = if negative {
        value.wrapping_neg()
    } else {
        value
    };
    let digits = Digits::new(magnitude, style.base, style.uppercase);

    let sign: &[u8] = match style.base {
        Base::Signed if negative => b"-",
        Base::Signed if style.plus_sign => b"+",
        Base::Signed if style.space_sign => b" ",
        _ => b"",
    };
    let prefix: &[u8] = match style.base {
        Base::Hex if style.alternate && style.uppercase => b"0X",
        Base::Hex if style.alternate => b"0x",
        Base::Octal if style.alternate && value != 0 => b"0",
        _ => b"",
    };
    let affixes = sign.len() + prefix.len();
    let zero_padded_width = if style.zero_pad && !style.left_align {
        style.width.saturating_sub(affixes)
    } else {
        0
    };
    let min_digits = style.precision.unwrap_or(0).max(zero_padded_width);
    let padded = digits.zero_padded_to(min_digits);
    let zeros = min_digits.saturating_sub(padded.len());
    let spaces = style.width.saturating_sub(affixes + zeros + padded.len());
    if spaces > 0 && !style.left_align {
        append_padding(out, b' ', spaces);
    }
    if affixes > 0 {
        out.extend_from_slice(sign);
        out.extend_from_slice(prefix);
    }
    if zeros > 0 {
        append_padding(out, b'0', zeros);
    }
    out.extend_from_slice(padded);
    if spaces > 0 && style.left_align {
        append_padding(out, b' ', spaces);
    }
}

/// Appends `value` in base 10, unsigned.
pub(super) fn append_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(Digits::decimal(value).zero_padded_to(0));
}

/// Appends `0x` and `value` in base 16.
pub(super) fn append_hex(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(b"0x");
    out.extend_from_slice(Digits::hex(value, false).zero_padded_to(0));
}

/// Appends a signed number in base 10.
pub(super) fn append_signed(out: &mut Vec<u8>, value: i64) {
    let style = FormatStyle {
        base: Base::Signed,
        ..FormatStyle::default()
    };
    append_number(out, value.cast_unsigned(), &style);
}

/// Appends `bytes` in base 16, two digits each, with `separator` between them.
pub(super) fn append_hex_bytes(out: &mut Vec<u8>, bytes: &[u8], separator: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(separator);
        }
        append_hex_byte(out, *byte, false);
    }
}

/// Appends an array of unsigned integers as `{0x1,0x2}`.
pub(super) fn append_array(out: &mut Vec<u8>, bytes: &[u8], elem_size: u8) {
    out.push(b'{');
    for (index, element) in bytes.chunks_exact(usize::from(elem_size)).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if let Ok(value) = read_int(element, 0, CType::new(elem_size, false)) {
            append_hex(out, value);
        }
    }
    out.push(b'}');
}

/// Appends `byte` in base 16, as two digits.
pub(super) fn append_hex_byte(out: &mut Vec<u8>, byte: u8, upper: bool) {
    let digits = if upper { UPPER } else { LOWER };
    out.extend_from_slice(&[
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]);
}

/// Appends `byte` `count` times.
pub(super) fn append_padding(out: &mut Vec<u8>, byte: u8, count: usize) {
    out.resize(out.len() + count, byte);
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

impl Digits {
    #[inline]
    fn new(value: u64, base: Base, upper: bool) -> Digits {
        match base {
            Base::Signed | Base::Decimal => Digits::decimal(value),
            Base::Octal => Digits::octal(value),
            Base::Hex => Digits::hex(value, upper),
        }
    }

    fn decimal(mut value: u64) -> Digits {
        let mut digits = Digits {
            buffer: [b'0'; 24],
            start: 24,
        };
        loop {
            digits.push(b'0' + (value % 10).to_le_bytes()[0]);
            value /= 10;
            if value == 0 {
                return digits;
            }
        }
    }

    fn octal(mut value: u64) -> Digits {
        let mut digits = Digits {
            buffer: [b'0'; 24],
            start: 24,
        };
        loop {
            digits.push(b'0' + (value & 7).to_le_bytes()[0]);
            value >>= 3;
            if value == 0 {
                return digits;
            }
        }
    }

    fn hex(value: u64, upper: bool) -> Digits {
        let mut buffer = [b'0'; 24];
        buffer[8..16].copy_from_slice(&hex_digits(value >> 32, upper));
        buffer[16..].copy_from_slice(&hex_digits(value & 0xffff_ffff, upper));
        let leading_zeros = (value | 1).leading_zeros() / 4;
        Digits {
            buffer,
            start: 8 + leading_zeros as usize,
        }
    }

    #[inline]
    fn push(&mut self, digit: u8) {
        self.start -= 1;
        self.buffer[self.start] = digit;
    }

    /// Returns the digits, padded with zeros to `length`, or to the length of the buffer if that is
    /// shorter.
    #[inline]
    fn zero_padded_to(&self, length: usize) -> &[u8] {
        &self.buffer[self.start.min(24_usize.saturating_sub(length))..]
    }
}

/// Returns the 8 digits of a 32-bit number. Computes all digits at once: spreads the 4-bit digits to
/// one byte each, then turns each byte into a character.
#[inline]
fn hex_digits(value: u64, upper: bool) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let halves = (value | value << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Adding 6 carries into bit 4 for the digits 10 to 15.
    let is_letter = ((nibbles + 6 * ONES) >> 4) & ONES;
    let letter_offset = if upper {
        b'A' - b'9' - 1
    } else {
        b'a' - b'9' - 1
    };
    (nibbles + u64::from(b'0') * ONES + is_letter * u64::from(letter_offset)).to_be_bytes()
}
