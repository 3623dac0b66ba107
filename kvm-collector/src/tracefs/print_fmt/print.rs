//! Prints a record with a compiled print format.

use super::format_spec::MAX_EXTENT;
use super::int_expr::IntExpr;
use super::pointer::{self, PointerObject};
use super::program::{Argument, Conversion, Piece, Program};
use crate::tracefs::ctype::CType;
use crate::tracefs::number::{FormatStyle, append_number, append_padding};
use crate::tracefs::record::ValueError;

impl Program {
    /// Appends the text that the kernel would print. A value that cannot be computed is printed as
    /// [`ValueError::text`].
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Conversion(conversion) => {
                    let start = out.len();
                    if let Err(error) = conversion.print(record, out) {
                        out.truncate(start);
                        out.extend_from_slice(error.text());
                    }
                }
            }
        }
    }
}

impl Conversion {
    fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        match &self.dynamic_extents {
            None => self.print_styled(record, &self.style, out),
            Some(extents) => self.print_styled(record, &self.resolve_style(extents, record)?, out),
        }
    }

    /// Evaluates the width and precision arguments. As in C, a negative width means the `-` flag.
    fn resolve_style(
        &self,
        extents: &(Option<IntExpr>, Option<IntExpr>),
        record: &[u8],
    ) -> Result<FormatStyle, ValueError> {
        let mut style = self.style;
        if let Some(width) = &extents.0 {
            let width = width.eval(record)?.cast_signed();
            style.left_align |= width < 0;
            style.width = clamp_extent(width.unsigned_abs());
        }
        if let Some(precision) = &extents.1 {
            let precision = precision.eval(record)?.cast_signed();
            style.precision = Some(clamp_extent(precision.max(0).unsigned_abs()));
        }
        Ok(style)
    }

    fn print_styled(
        &self,
        record: &[u8],
        style: &FormatStyle,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        match &self.argument {
            Argument::Number(value) => append_number(out, value.eval(record)?, style),
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
            Argument::Address(value) => pointer::append_address(out, value.eval(record)?, style),
            Argument::Symbol(value) => pointer::append_symbol_address(out, value.eval(record)?),
            Argument::PointedTo(object, location) => {
                let start = out.len();
                object.print(out, location.bytes(record)?, style.width)?;
                if *object != PointerObject::HexBytes {
                    align(out, start, style);
                }
            }
        }
        Ok(())
    }
}

fn clamp_extent(extent: u64) -> usize {
    usize::try_from(extent)
        .unwrap_or(MAX_EXTENT)
        .min(MAX_EXTENT)
}

/// Pads the text from `start` to the style's width with spaces.
fn align(out: &mut Vec<u8>, start: usize, style: &FormatStyle) {
    let missing = style.width.saturating_sub(out.len() - start);
    if missing > 0 {
        append_padding(out, b' ', missing);
        if !style.left_align {
            out[start..].rotate_right(missing);
        }
    }
}
