//! Integers to text, exactly as `number()` of the kernel's lib/vsprintf.c does it.
//!
//! It differs from the C library's in three ways: zero keeps its `0x` under `#`, zero is printed even with precision 0,
//! and the `0` flag pads to the width although a precision is given.

/// How to print a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) base: Base,
    pub(super) left: bool,
    pub(super) plus: bool,
    pub(super) space: bool,
    pub(super) alternate: bool,
    pub(super) zero: bool,
    pub(super) upper: bool,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Base {
    /// Base 10, of a signed number.
    Signed,
    #[default]
    Decimal,
    Octal,
    Hex,
}

/// The digits of a number at the end of a buffer, as long as the longest: 22 in base 8. What is before them is zeros.
struct Digits {
    buffer: [u8; 24],
    start: usize,
}

/// Appends `value` to `out`.
pub(super) fn number(out: &mut Vec<u8>, value: u64, style: &Style) {
    let negative = style.base == Base::Signed && value.cast_signed() < 0;
    let magnitude = if negative {
        value.wrapping_neg()
    } else {
        value
    };
    let digits = Digits::of(magnitude, style.base, style.upper);

    let sign: &[u8] = match style.base {
        Base::Signed if negative => b"-",
        Base::Signed if style.plus => b"+",
        Base::Signed if style.space => b" ",
        _ => b"",
    };
    let prefix: &[u8] = match style.base {
        Base::Hex if style.alternate && style.upper => b"0X",
        Base::Hex if style.alternate => b"0x",
        Base::Octal if style.alternate && value != 0 => b"0",
        _ => b"",
    };
    let affixes = sign.len() + prefix.len();
    let filled = if style.zero && !style.left {
        style.width.saturating_sub(affixes)
    } else {
        0
    };
    let least = style.precision.unwrap_or(0).max(filled);
    let shown = digits.at_least(least);
    let zeros = least.saturating_sub(shown.len());
    let spaces = style.width.saturating_sub(affixes + zeros + shown.len());
    if spaces > 0 && !style.left {
        pad(out, b' ', spaces);
    }
    if affixes > 0 {
        out.extend_from_slice(sign);
        out.extend_from_slice(prefix);
    }
    if zeros > 0 {
        pad(out, b'0', zeros);
    }
    out.extend_from_slice(shown);
    if spaces > 0 && style.left {
        pad(out, b' ', spaces);
    }
}

/// Appends `value` in base 10.
pub(in crate::tracefs) fn decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(Digits::decimal(value).at_least(0));
}

/// Appends `0x` and `value` in base 16.
pub(in crate::tracefs) fn hex(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(b"0x");
    out.extend_from_slice(Digits::hex(value, false).at_least(0));
}

/// Appends both digits of `byte` in base 16.
pub(super) fn hex_byte(out: &mut Vec<u8>, byte: u8, upper: bool) {
    let digits = if upper { UPPER } else { LOWER };
    out.extend_from_slice(&[
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]);
}

/// Appends `count` times `byte`.
pub(super) fn pad(out: &mut Vec<u8>, byte: u8, count: usize) {
    out.resize(out.len() + count, byte);
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

impl Digits {
    #[inline]
    fn of(value: u64, base: Base, upper: bool) -> Digits {
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
        let zeros = (value | 1).leading_zeros() / 4;
        Digits {
            buffer,
            start: 8 + zeros as usize,
        }
    }

    #[inline]
    fn push(&mut self, digit: u8) {
        self.start -= 1;
        self.buffer[self.start] = digit;
    }

    /// The digits, with zeros before them to make `length` as far as the buffer goes.
    #[inline]
    fn at_least(&self, length: usize) -> &[u8] {
        &self.buffer[self.start.min(24_usize.saturating_sub(length))..]
    }
}

/// The 8 digits of a 32-bit number, all at once: each nibble moves to a byte of its own, then becomes a letter or a digit.
#[inline]
fn hex_digits(value: u64, upper: bool) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let halves = (value | value << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = ((nibbles + 6 * ONES) >> 4) & ONES;
    let to_letter = if upper {
        b'A' - b'9' - 1
    } else {
        b'a' - b'9' - 1
    };
    (nibbles + u64::from(b'0') * ONES + is_letter * u64::from(to_letter)).to_be_bytes()
}
