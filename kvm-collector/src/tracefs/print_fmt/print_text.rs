//! Evaluates text expressions on a record.

use super::int_expr::IntExpr;
use super::program::{Flags, Symbolic, TextExpr};
use crate::tracefs::ctype::CType;
use crate::tracefs::number::{
    Base, FormatStyle, append_array, append_hex, append_hex_bytes, append_number,
};
use crate::tracefs::record::{ArrayLocation, ValueError, read_int, until_nul};

impl TextExpr {
    /// Appends the text to `out`. After an error, `out` may end with a part of the text.
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        match self.resolve(record)? {
            TextExpr::Literal(text) => out.extend_from_slice(text),
            TextExpr::CString(location) => out.extend_from_slice(location.c_string(record)?),
            TextExpr::Indexed(texts, index) => {
                let index =
                    usize::try_from(index.eval(record)?).map_err(|_| ValueError::Undefined)?;
                out.extend_from_slice(texts.get(index).ok_or(ValueError::Undefined)?);
            }
            TextExpr::Symbolic(symbolic) => symbolic.print(record, out)?,
            TextExpr::Flags(flags) => flags.print(record, out)?,
            TextExpr::HexBytes {
                array,
                length,
                spaced,
            } => {
                let separator: &[u8] = if *spaced { b" " } else { b"" };
                let length = length.eval(record)?;
                append_hex_bytes(out, first_bytes(*array, length, record)?, separator);
            }
            TextExpr::Array { array, count, size } => {
                print_array(out, *array, count, size, record)?;
            }
            TextExpr::Bitmask(location) => append_bitmask(out, location.bytes(record)?),
            TextExpr::Printed(program) => {
                let start = out.len();
                program.print(record, out);
                // The kernel prints the text as a C string.
                let length = until_nul(&out[start..]).len();
                out.truncate(start + length);
            }
            // resolve() never returns a conditional.
            TextExpr::Conditional(_) => {}
        }
        Ok(())
    }

    /// Whether this text can be the name of the value of the field at `offset`, or of its flags.
    pub(super) fn can_name_field(&self, offset: usize) -> bool {
        match self {
            TextExpr::Conditional(parts) => {
                parts.1.can_name_field(offset) || parts.2.can_name_field(offset)
            }
            TextExpr::Symbolic(symbolic) => symbolic.value.single_field_offset() == Some(offset),
            TextExpr::Flags(flags) => flags.value.single_field_offset() == Some(offset),
            _ => false,
        }
    }

    /// Appends the name of the value of the field at `offset`, or the names of its flags. Appends
    /// nothing if the text is about something else in this record.
    pub(super) fn append_field_name(
        &self,
        offset: usize,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let text = self.resolve(record)?;
        match text {
            TextExpr::Symbolic(symbolic) if text.can_name_field(offset) => {
                out.extend_from_slice(symbolic.name(symbolic.value.eval(record)?).unwrap_or(b""));
            }
            TextExpr::Flags(flags) if text.can_name_field(offset) => flags.print(record, out)?,
            _ => {}
        }
        Ok(())
    }

    /// Evaluates conditions, and returns the branch for this record.
    pub(super) fn resolve(&self, record: &[u8]) -> Result<&TextExpr, ValueError> {
        let mut text = self;
        while let TextExpr::Conditional(parts) = text {
            text = if parts.0.eval(record)? != 0 {
                &parts.1
            } else {
                &parts.2
            };
        }
        Ok(text)
    }
}

impl Symbolic {
    fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let value = self.value.eval(record)?;
        match self.name(value) {
            Some(name) => out.extend_from_slice(name),
            None => append_hex(out, value),
        }
        Ok(())
    }
}

impl Flags {
    /// Prints the name of each mask that is completely set, then the remaining bits in base 16, like
    /// the kernel's `trace_print_flags_seq()`.
    fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let mut remaining = self.value.eval(record)?;
        let mut delimiter: &[u8] = b"";
        for (mask, name) in &self.names {
            if remaining == 0 {
                break;
            }
            if remaining & mask == *mask {
                remaining &= !mask;
                out.extend_from_slice(delimiter);
                out.extend_from_slice(name);
                delimiter = &self.delimiter;
            }
        }
        if remaining != 0 {
            out.extend_from_slice(delimiter);
            append_hex(out, remaining);
        }
        Ok(())
    }
}

/// Returns the first `length` bytes of an array.
fn first_bytes(array: ArrayLocation, length: u64, record: &[u8]) -> Result<&[u8], ValueError> {
    let length = usize::try_from(length).map_err(|_| ValueError::Truncated)?;
    array
        .bytes(record)?
        .get(..length)
        .ok_or(ValueError::Truncated)
}

fn print_array(
    out: &mut Vec<u8>,
    array: ArrayLocation,
    count: &IntExpr,
    size: &IntExpr,
    record: &[u8],
) -> Result<(), ValueError> {
    let size = size.eval(record)?;
    let elem_size = u8::try_from(size)
        .ok()
        .filter(|size| matches!(size, 1 | 2 | 4 | 8))
        .ok_or(ValueError::Undefined)?;
    let length = count.eval(record)?.saturating_mul(size);
    append_array(out, first_bytes(array, length, record)?, elem_size);
    Ok(())
}

/// Appends a bitmask as `%*pb` prints it: 32-bit words in base 16, the highest first.
fn append_bitmask(out: &mut Vec<u8>, bytes: &[u8]) {
    let style = FormatStyle {
        base: Base::Hex,
        zero_pad: true,
        width: 8,
        ..FormatStyle::default()
    };
    for (index, word) in bytes.rchunks_exact(4).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if let Ok(value) = read_int(word, 0, CType::U32) {
            append_number(out, value, &style);
        }
    }
}
