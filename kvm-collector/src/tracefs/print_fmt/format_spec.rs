//! Parses a format string into literal text and conversions, like `format_decode()` in the kernel's
//! lib/vsprintf.c.

use crate::tracefs::ctype::CType;
use crate::tracefs::number::{Base, FormatStyle};

/// The maximum width and precision; larger values are reduced to this. A line of trace output has at
/// most 8 KiB.
pub(super) const MAX_EXTENT: usize = 4096;

/// A part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SpecItem {
    Literal(Vec<u8>),
    Conversion(ConversionSpec),
}

/// A conversion such as `%-8.3lu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConversionSpec {
    pub(super) style: FormatStyle,
    /// The width is an argument: `%*d`.
    pub(super) has_width_argument: bool,
    /// The precision is an argument: `%.*s`.
    pub(super) has_precision_argument: bool,
    pub(super) kind: ConversionKind,
}

/// What a conversion prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConversionKind {
    /// An integer of this type.
    Number(CType),
    Char,
    Text,
    /// `%p` with the letters after it.
    Pointer(String),
}

/// Splits a format string into literal text and conversions.
pub(super) fn parse_spec(format: &[u8]) -> Result<Vec<SpecItem>, String> {
    let mut items = Vec::new();
    let mut literal = Vec::new();
    let mut rest = format.iter().as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            literal.push(byte);
            continue;
        }
        match SpecReader(&mut rest).parse_conversion()? {
            None => literal.push(b'%'),
            Some(conversion) => {
                if !literal.is_empty() {
                    items.push(SpecItem::Literal(std::mem::take(&mut literal)));
                }
                items.push(SpecItem::Conversion(conversion));
            }
        }
    }
    if !literal.is_empty() {
        items.push(SpecItem::Literal(literal));
    }
    Ok(items)
}

/// The part of the format string that is not parsed yet.
struct SpecReader<'r, 'f>(&'r mut &'f [u8]);

impl SpecReader<'_, '_> {
    fn accept(&mut self, wanted: u8) -> bool {
        match self.0.split_first() {
            Some((&byte, rest)) if byte == wanted => {
                *self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn next(&mut self) -> Result<u8, String> {
        let (&byte, rest) = self
            .0
            .split_first()
            .ok_or("the format string ends inside a conversion")?;
        *self.0 = rest;
        Ok(byte)
    }

    fn parse_digits(&mut self) -> Option<usize> {
        let mut value: Option<usize> = None;
        while let Some((&digit @ b'0'..=b'9', rest)) = self.0.split_first() {
            *self.0 = rest;
            value = Some((value.unwrap_or(0) * 10 + usize::from(digit - b'0')).min(MAX_EXTENT));
        }
        value
    }

    /// Parses a conversion after its `%`. Returns `None` for `%%`.
    fn parse_conversion(&mut self) -> Result<Option<ConversionSpec>, String> {
        let mut style = FormatStyle::default();
        loop {
            if self.accept(b'-') {
                style.left_align = true;
            } else if self.accept(b'+') {
                style.plus_sign = true;
            } else if self.accept(b' ') {
                style.space_sign = true;
            } else if self.accept(b'#') {
                style.alternate = true;
            } else if self.accept(b'0') {
                style.zero_pad = true;
            } else {
                break;
            }
        }
        let width_argument = self.accept(b'*');
        style.width = if width_argument {
            0
        } else {
            self.parse_digits().unwrap_or(0)
        };
        let mut precision_argument = false;
        if self.accept(b'.') {
            precision_argument = self.accept(b'*');
            style.precision = if precision_argument {
                None
            } else {
                Some(self.parse_digits().unwrap_or(0))
            };
        }
        let size = self.parse_length_modifier();
        let kind = match self.next()? {
            b'%' => return Ok(None),
            b'c' => ConversionKind::Char,
            b's' => ConversionKind::Text,
            b'p' => ConversionKind::Pointer(self.pointer_letters()),
            letter => {
                (style.base, style.uppercase) = match letter {
                    b'd' | b'i' => (Base::Signed, false),
                    b'u' => (Base::Decimal, false),
                    b'o' => (Base::Octal, false),
                    b'x' => (Base::Hex, false),
                    b'X' => (Base::Hex, true),
                    letter => return Err(format!("unknown conversion %{}", char::from(letter))),
                };
                ConversionKind::Number(CType::new(size, style.base == Base::Signed))
            }
        };
        Ok(Some(ConversionSpec {
            style,
            has_width_argument: width_argument,
            has_precision_argument: precision_argument,
            kind,
        }))
    }

    /// Parses a length modifier (`hh`, `l`, ...). Returns the size of the argument in bytes.
    fn parse_length_modifier(&mut self) -> u8 {
        if self.accept(b'h') {
            return if self.accept(b'h') { 1 } else { 2 };
        }
        if self.accept(b'l') {
            self.accept(b'l');
            return 8;
        }
        if self.accept(b'L') || self.accept(b'z') || self.accept(b't') {
            8
        } else {
            4
        }
    }

    fn pointer_letters(&mut self) -> String {
        let length = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count();
        let (letters, rest) = self.0.split_at(length);
        *self.0 = rest;
        letters.iter().copied().map(char::from).collect()
    }
}
