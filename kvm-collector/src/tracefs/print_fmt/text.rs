//! Expressions whose value is text, ready to be evaluated on a record.

use super::ctype::CType;
use super::memory::{Memory, until_nul};
use super::num::{Fault, Num, load};
use super::number::{Base, Style, hex, hex_byte, number};
use super::program::Program;

pub(super) type Bytes = Box<[u8]>;

/// Values or bits and their names.
pub(super) type Names = Vec<(u64, Bytes)>;

#[derive(Clone, Debug)]
pub(super) enum Text {
    Literal(Bytes),
    Cond(Box<(Num, Text, Text)>),
    /// A string in the record.
    Chars(Memory),
    /// An element of a local array of strings.
    OneOf(Box<[Bytes]>, Num),
    Symbolic(Symbolic),
    Flags(Flags),
    /// The first `length` bytes of `memory` in hex, with or without spaces between.
    Hex {
        memory: Memory,
        length: Num,
        spaced: bool,
    },
    /// `{0x1,0x2}`: `count` elements of `size` bytes.
    Array {
        memory: Memory,
        count: Num,
        size: Num,
    },
    /// A CPU mask or other bit map, as `%*pb` prints it.
    Bitmask(Memory),
    /// What a statement expression printed.
    Printed(Program),
}

/// `__print_symbolic`: a value's name.
#[derive(Clone, Debug)]
pub(super) struct Symbolic {
    pub(super) value: Num,
    names: Box<[(u64, Bytes)]>,
}

/// `__print_flags`: the names of a value's bits.
#[derive(Clone, Debug)]
pub(super) struct Flags {
    pub(super) value: Num,
    pub(super) delimiter: Bytes,
    pub(super) names: Box<[(u64, Bytes)]>,
}

impl Text {
    /// Appends the text to `out`. After a fault, `out` may hold a part of it.
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.chosen(record)? {
            Text::Literal(text) => out.extend_from_slice(text),
            Text::Chars(memory) => out.extend_from_slice(memory.chars(record)?),
            Text::OneOf(texts, index) => {
                let index = usize::try_from(index.eval(record)?).map_err(|_| Fault::Undefined)?;
                out.extend_from_slice(texts.get(index).ok_or(Fault::Undefined)?);
            }
            Text::Symbolic(symbolic) => symbolic.print(record, out)?,
            Text::Flags(flags) => flags.print(record, out)?,
            Text::Hex {
                memory,
                length,
                spaced,
            } => {
                let separator: &[u8] = if *spaced { b" " } else { b"" };
                hex_bytes(out, first(*memory, length, record)?, separator);
            }
            Text::Array {
                memory,
                count,
                size,
            } => array(out, *memory, count, size, record)?,
            Text::Bitmask(memory) => bitmask(out, memory.bytes(record)?),
            Text::Printed(program) => {
                let start = out.len();
                program.print(record, out);
                let seen = until_nul(&out[start..]).len();
                out.truncate(start + seen);
            }
            // chosen() went through these.
            Text::Cond(_) => {}
        }
        Ok(())
    }

    /// Can this be the name of the field at `offset`, or of its flags?
    pub(super) fn may_name(&self, offset: usize) -> bool {
        match self {
            Text::Cond(parts) => parts.1.may_name(offset) || parts.2.may_name(offset),
            Text::Symbolic(symbolic) => symbolic.value.only_field() == Some(offset),
            Text::Flags(flags) => flags.value.only_field() == Some(offset),
            _ => false,
        }
    }

    /// Appends the name of the field at `offset`, or its flags' names, if that is what this record is printed with.
    pub(super) fn name(
        &self,
        offset: usize,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let text = self.chosen(record)?;
        match text {
            Text::Symbolic(symbolic) if text.may_name(offset) => {
                out.extend_from_slice(symbolic.name(symbolic.value.eval(record)?).unwrap_or(b""));
            }
            Text::Flags(flags) if text.may_name(offset) => flags.print(record, out)?,
            _ => {}
        }
        Ok(())
    }

    /// This text, or what its conditions choose for this record.
    pub(super) fn chosen(&self, record: &[u8]) -> Result<&Text, Fault> {
        let mut text = self;
        while let Text::Cond(parts) = text {
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
    /// Where a value is listed twice the first name counts, as for the kernel, which searches from the start.
    pub(super) fn new(value: Num, mut names: Names) -> Symbolic {
        names.sort_by_key(|(value, _)| *value);
        names.dedup_by_key(|(value, _)| *value);
        Symbolic {
            value,
            names: names.into(),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.names
            .iter()
            .filter(|(_, name)| !name.is_empty())
            .map(|(value, name)| (*value, &**name))
    }

    /// The name of `value`. An empty one is none: the kernel prints the number if nothing else was printed.
    pub(super) fn name(&self, value: u64) -> Option<&[u8]> {
        let at = self
            .names
            .binary_search_by_key(&value, |(value, _)| *value)
            .ok()?;
        Some(&*self.names[at].1).filter(|name| !name.is_empty())
    }

    fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let value = self.value.eval(record)?;
        match self.name(value) {
            Some(name) => out.extend_from_slice(name),
            None => hex(out, value),
        }
        Ok(())
    }
}

impl Flags {
    /// As `trace_print_flags_seq()`: each mask that is wholly set gives its name, what is left over is printed in hex.
    fn print(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut left = self.value.eval(record)?;
        let mut delimiter: &[u8] = b"";
        for (mask, name) in &self.names {
            if left == 0 {
                break;
            }
            if left & mask == *mask {
                left &= !mask;
                out.extend_from_slice(delimiter);
                out.extend_from_slice(name);
                delimiter = &self.delimiter;
            }
        }
        if left != 0 {
            out.extend_from_slice(delimiter);
            hex(out, left);
        }
        Ok(())
    }
}

/// The first `length` bytes of `memory`; asking for more than there are finds them missing.
fn first<'r>(memory: Memory, length: &Num, record: &'r [u8]) -> Result<&'r [u8], Fault> {
    let length = usize::try_from(length.eval(record)?).map_err(|_| Fault::Truncated)?;
    memory.bytes(record)?.get(..length).ok_or(Fault::Truncated)
}

/// Appends `bytes` in hex with `separator` between them.
pub(super) fn hex_bytes(out: &mut Vec<u8>, bytes: &[u8], separator: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(separator);
        }
        hex_byte(out, *byte, false);
    }
}

fn array(
    out: &mut Vec<u8>,
    memory: Memory,
    count: &Num,
    size: &Num,
    record: &[u8],
) -> Result<(), Fault> {
    let size = size.eval(record)?;
    let ctype = u8::try_from(size)
        .ok()
        .filter(|size| matches!(size, 1 | 2 | 4 | 8))
        .ok_or(Fault::Undefined)?;
    let length = Num::Const(count.eval(record)?.saturating_mul(size));
    elements(
        out,
        first(memory, &length, record)?,
        CType::new(ctype, false),
    );
    Ok(())
}

/// Appends `bytes` as `{0x1,0x2}`.
pub(super) fn elements(out: &mut Vec<u8>, bytes: &[u8], ctype: CType) {
    out.push(b'{');
    for (at, element) in bytes.chunks_exact(usize::from(ctype.size)).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if let Ok(value) = load(element, 0, CType::new(ctype.size, false)) {
            hex(out, value);
        }
    }
    out.push(b'}');
}

/// 32 bits at a time, the highest first.
fn bitmask(out: &mut Vec<u8>, bytes: &[u8]) {
    let style = Style {
        base: Base::Hex,
        zero: true,
        width: 8,
        ..Style::default()
    };
    for (at, word) in bytes.rchunks_exact(4).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if let Ok(value) = load(word, 0, CType::U32) {
            number(out, value, &style);
        }
    }
}
