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

/// Digits of a number, filled from the end.
struct Digits {
    buffer: [u8; 22],
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
    let digits = digits.as_slice();

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
    let zeros = style.precision.unwrap_or(0).saturating_sub(digits.len());
    let padding = style
        .width
        .saturating_sub(sign.len() + prefix.len() + zeros + digits.len());
    if padding > 0 && !style.left && !style.zero {
        pad(out, b' ', padding);
    }
    out.extend_from_slice(sign);
    out.extend_from_slice(prefix);
    if padding > 0 && !style.left && style.zero {
        pad(out, b'0', padding);
    }
    if zeros > 0 {
        pad(out, b'0', zeros);
    }
    out.extend_from_slice(digits);
    if padding > 0 && style.left {
        pad(out, b' ', padding);
    }
}

/// Appends `value` in base 10.
pub(in crate::tracefs) fn decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(Digits::of(value, Base::Decimal, false).as_slice());
}

/// Appends `0x` and `value` in base 16.
pub(in crate::tracefs) fn hex(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(b"0x");
    out.extend_from_slice(Digits::of(value, Base::Hex, false).as_slice());
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
    fn of(mut value: u64, base: Base, upper: bool) -> Digits {
        let mut digits = Digits {
            buffer: [0; 22],
            start: 22,
        };
        match base {
            Base::Signed | Base::Decimal => loop {
                digits.push(b'0' + u8::try_from(value % 10).unwrap_or(0));
                value /= 10;
                if value == 0 {
                    return digits;
                }
            },
            Base::Octal => loop {
                digits.push(LOWER[usize::from(value.to_le_bytes()[0] & 7)]);
                value >>= 3;
                if value == 0 {
                    return digits;
                }
            },
            Base::Hex => {
                let alphabet = if upper { UPPER } else { LOWER };
                loop {
                    digits.push(alphabet[usize::from(value.to_le_bytes()[0] & 15)]);
                    value >>= 4;
                    if value == 0 {
                        return digits;
                    }
                }
            }
        }
    }

    /// A u64 has at most 22 digits, in base 8, which is what the buffer holds.
    #[inline]
    fn push(&mut self, digit: u8) {
        self.start -= 1;
        self.buffer[self.start] = digit;
    }

    fn as_slice(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}
