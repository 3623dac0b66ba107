//! A compiled format string: literal text and conversions in a row.

use super::ctype::CType;
use super::memory::Memory;
use super::num::{Fault, Num};
use super::number::{Style, number, pad};
use super::pointer::{self, Object};
use super::spec::MAX_EXTENT;
use super::text::Text;

#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) pieces: Box<[Piece]>,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Literal(Box<[u8]>),
    Conversion(Conversion),
}

#[derive(Clone, Debug)]
pub(super) struct Conversion {
    pub(super) style: Style,
    /// `(width, precision)` of `%*.*d`.
    pub(super) extents: Option<Box<(Option<Num>, Option<Num>)>>,
    pub(super) argument: Argument,
}

#[derive(Clone, Debug)]
pub(super) enum Argument {
    /// A value already of the type its conversion takes.
    Number(Num),
    Char(Num),
    Text(Text),
    /// `%p`
    Address(Num),
    /// `%pS`
    Symbol(Num),
    /// `%pM` and its like: what it points to is in the record.
    Object(Object, Memory),
}

impl Program {
    /// Appends what the kernel would print. What the record lacks is printed as [`Fault::text`].
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Conversion(conversion) => {
                    let start = out.len();
                    if let Err(fault) = conversion.print(record, out) {
                        out.truncate(start);
                        out.extend_from_slice(fault.text());
                    }
                }
            }
        }
    }

    /// The argument of the conversion right after the literal text that ends in `label`; with an empty label, of the
    /// conversion that the format starts with.
    pub(super) fn labelled(&self, label: &str) -> Option<&Argument> {
        if label.is_empty() {
            return match self.pieces.first() {
                Some(Piece::Conversion(first)) => Some(&first.argument),
                _ => None,
            };
        }
        self.pieces.windows(2).find_map(|pair| match pair {
            [Piece::Literal(text), Piece::Conversion(next)] if text.ends_with(label.as_bytes()) => {
                Some(&next.argument)
            }
            _ => None,
        })
    }
}

impl Conversion {
    fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match &self.extents {
            None => self.print_styled(record, &self.style, out),
            Some(extents) => self.print_styled(record, &self.adjusted(extents, record)?, out),
        }
    }

    /// The style with width and precision taken from the arguments, as C takes them: a negative width means `-`.
    fn adjusted(
        &self,
        extents: &(Option<Num>, Option<Num>),
        record: &[u8],
    ) -> Result<Style, Fault> {
        let mut style = self.style;
        if let Some(width) = &extents.0 {
            let width = width.eval(record)?.cast_signed();
            style.left |= width < 0;
            style.width = clamp(width.unsigned_abs());
        }
        if let Some(precision) = &extents.1 {
            let precision = precision.eval(record)?.cast_signed();
            style.precision = Some(clamp(precision.max(0).unsigned_abs()));
        }
        Ok(style)
    }

    fn print_styled(&self, record: &[u8], style: &Style, out: &mut Vec<u8>) -> Result<(), Fault> {
        match &self.argument {
            Argument::Number(value) => number(out, value.eval(record)?, style),
            Argument::Char(value) => {
                let start = out.len();
                out.push(CType::U8.wrap(value.eval(record)?).to_le_bytes()[0]);
                align(out, start, style);
            }
            Argument::Text(text) => {
                let start = out.len();
                text.print(record, out)?;
                if let Some(precision) = style.precision {
                    out.truncate(start + precision.min(out.len() - start));
                }
                align(out, start, style);
            }
            Argument::Address(value) => pointer::address(out, value.eval(record)?, style),
            Argument::Symbol(value) => pointer::symbol(out, value.eval(record)?),
            Argument::Object(object, memory) => {
                let start = out.len();
                object.print(out, memory.bytes(record)?, style.width)?;
                if *object != Object::Bytes {
                    align(out, start, style);
                }
            }
        }
        Ok(())
    }
}

fn clamp(extent: u64) -> usize {
    usize::try_from(extent)
        .unwrap_or(MAX_EXTENT)
        .min(MAX_EXTENT)
}

/// Pads what was appended since `start` to the width, with spaces.
fn align(out: &mut Vec<u8>, start: usize, style: &Style) {
    let missing = style.width.saturating_sub(out.len() - start);
    if missing > 0 {
        pad(out, b' ', missing);
        if !style.left {
            out[start..].rotate_right(missing);
        }
    }
}
