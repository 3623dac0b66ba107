//! The conversions of a format string, as `format_decode()` of the kernel's lib/vsprintf.c reads them.

use super::ctype::CType;
use super::number::{Base, Style};

/// The widest field and the longest precision; more is cut to this. A whole trace line is at most 8 KiB long.
pub(super) const MAX_EXTENT: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Literal(Vec<u8>),
    Conversion(Conversion),
}

/// `%-8.3lu` and its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    pub(super) style: Style,
    /// The width is an argument: `%*d`.
    pub(super) width_argument: bool,
    /// The precision is an argument: `%.*s`.
    pub(super) precision_argument: bool,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An integer that is passed as this type.
    Number(CType),
    Char,
    Text,
    /// `%p` and the letters that follow it.
    Pointer(String),
}

/// Splits a format string into literal text and conversions.
pub(super) fn items(format: &[u8]) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut literal = Vec::new();
    let mut rest = format.iter().as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            literal.push(byte);
            continue;
        }
        match Reader(&mut rest).conversion()? {
            None => literal.push(b'%'),
            Some(conversion) => {
                if !literal.is_empty() {
                    items.push(Item::Literal(std::mem::take(&mut literal)));
                }
                items.push(Item::Conversion(conversion));
            }
        }
    }
    if !literal.is_empty() {
        items.push(Item::Literal(literal));
    }
    Ok(items)
}

/// What is left of the format string.
struct Reader<'r, 'f>(&'r mut &'f [u8]);

impl Reader<'_, '_> {
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

    fn digits(&mut self) -> Option<usize> {
        let mut value: Option<usize> = None;
        while let Some((&digit @ b'0'..=b'9', rest)) = self.0.split_first() {
            *self.0 = rest;
            value = Some((value.unwrap_or(0) * 10 + usize::from(digit - b'0')).min(MAX_EXTENT));
        }
        value
    }

    /// What follows a `%`; `None` for `%%`.
    fn conversion(&mut self) -> Result<Option<Conversion>, String> {
        let mut style = Style::default();
        loop {
            if self.accept(b'-') {
                style.left = true;
            } else if self.accept(b'+') {
                style.plus = true;
            } else if self.accept(b' ') {
                style.space = true;
            } else if self.accept(b'#') {
                style.alternate = true;
            } else if self.accept(b'0') {
                style.zero = true;
            } else {
                break;
            }
        }
        let width_argument = self.accept(b'*');
        style.width = if width_argument {
            0
        } else {
            self.digits().unwrap_or(0)
        };
        let mut precision_argument = false;
        if self.accept(b'.') {
            precision_argument = self.accept(b'*');
            style.precision = if precision_argument {
                None
            } else {
                Some(self.digits().unwrap_or(0))
            };
        }
        let size = self.length();
        let kind = match self.next()? {
            b'%' => return Ok(None),
            b'c' => Kind::Char,
            b's' => Kind::Text,
            b'p' => Kind::Pointer(self.letters()),
            letter => {
                (style.base, style.upper) = match letter {
                    b'd' | b'i' => (Base::Signed, false),
                    b'u' => (Base::Decimal, false),
                    b'o' => (Base::Octal, false),
                    b'x' => (Base::Hex, false),
                    b'X' => (Base::Hex, true),
                    letter => return Err(format!("unknown conversion %{}", char::from(letter))),
                };
                Kind::Number(CType::new(size, style.base == Base::Signed))
            }
        };
        Ok(Some(Conversion {
            style,
            width_argument,
            precision_argument,
            kind,
        }))
    }

    /// The size in bytes that the length letters (`hh`, `l`, ...) stand for.
    fn length(&mut self) -> u8 {
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

    fn letters(&mut self) -> String {
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
