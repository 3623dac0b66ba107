//! The `print fmt` of an event: TP_printk's arguments as C source, compiled once and then run on records.
//!
//! text -> [`lex`] tokens -> [`parse`] an [`ast`] -> [`compile`] (with [`call`] and [`block`]) a [`program`] of
//! [`num`]eric and [`text`] expressions bound to offsets. What this cannot do is an error with a reason, never a guess.

mod ast;
mod block;
mod call;
mod compile;
mod ctype;
mod format_string;
mod kernel;
mod lex;
mod memory;
mod num;
mod number;
mod parse;
mod pointer;
mod program;
mod spec;
mod text;

use crate::tracefs::field::Field;
use program::{Argument, Conversion, Piece, Program};
use text::{Symbolic, Text};

/// A compiled print format.
#[derive(Clone, Debug)]
pub(super) struct PrintFmt(Program);

impl PrintFmt {
    /// Compiles the text after `print fmt: `. The error says what the format does that this cannot.
    pub(super) fn compile(
        text: &str,
        common: &[Field],
        fields: &[Field],
    ) -> Result<PrintFmt, String> {
        let parsed = lex::tokens(text).and_then(|tokens| parse::arguments(&tokens));
        let arguments = parsed.map_err(|reason| format!("cannot be parsed: {reason}"))?;
        let mut compiler = compile::Compiler::new(common, fields);
        let pieces = format_string::compile(&mut compiler, &arguments)?;
        Ok(PrintFmt(Program {
            pieces: pieces.into(),
        }))
    }

    /// Appends the text of `record` to `out`.
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        self.0.print(record, out);
    }

    /// The text of the argument that is printed after `label`, unless it is a code without a name.
    pub(super) fn symbol(&self, label: &str, record: &[u8]) -> Option<String> {
        let mut name = Vec::new();
        match self.chosen(label, record)? {
            Text::Symbolic(symbolic) => {
                name.extend_from_slice(symbolic.name(symbolic.value.eval(record).ok()?)?)
            }
            text => text.print(record, &mut name).ok()?,
        }
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    /// All codes and names of the table that names the argument printed after `label`, by code.
    pub(super) fn symbols(&self, label: &str, record: &[u8]) -> Vec<(u64, String)> {
        let owned =
            |(value, name): (u64, &[u8])| (value, String::from_utf8_lossy(name).into_owned());
        match self.chosen(label, record) {
            Some(Text::Symbolic(symbolic)) => Symbolic::names(symbolic).map(owned).collect(),
            _ => Vec::new(),
        }
    }

    /// Is the field at this offset ever printed by name, on its own?
    pub(super) fn names_field(&self, offset: usize) -> bool {
        self.texts().any(|text| text.may_name(offset))
    }

    /// Appends the names that `record` is printed with for the field at this offset: of its value, and of its flags.
    pub(super) fn field_names(&self, offset: usize, record: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        for text in self.texts() {
            let before = out.len();
            if before > start {
                out.push(b' ');
            }
            let named = out.len();
            // A fault leaves nothing to name.
            if text.name(offset, record, out).is_err() || out.len() == named {
                out.truncate(before);
            }
        }
    }

    fn texts(&self) -> impl Iterator<Item = &Text> {
        self.0.pieces.iter().filter_map(|piece| match piece {
            Piece::Conversion(Conversion {
                argument: Argument::Text(text),
                ..
            }) => Some(text),
            _ => None,
        })
    }

    fn chosen(&self, label: &str, record: &[u8]) -> Option<&Text> {
        match self.0.labelled(label)? {
            Argument::Text(text) => text.chosen(record).ok(),
            _ => None,
        }
    }
}

/// Reads an integer of 1, 2, 4 or 8 bytes.
#[inline]
pub(super) fn load(record: &[u8], offset: usize, size: usize, signed: bool) -> Option<u64> {
    let size = u8::try_from(size)
        .ok()
        .filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
    num::load(record, offset, ctype::CType::new(size, signed)).ok()
}

/// The size of the integer type spelled `name`.
pub(super) fn size_of_integer(name: &str) -> Option<u8> {
    if name == "bool" {
        return Some(1);
    }
    ctype::from_words(name.split_whitespace()).map(|ctype| ctype.size)
}

/// Ways to print a field on its own, for events whose print format is beyond this.
pub(super) mod plain {
    pub(in crate::tracefs) use super::memory::until_nul;
    pub(in crate::tracefs) use super::number::{decimal, hex};

    /// Appends a signed number in base 10.
    pub(in crate::tracefs) fn signed(out: &mut Vec<u8>, value: i64) {
        let style = super::number::Style {
            base: super::number::Base::Signed,
            ..Default::default()
        };
        super::number::number(out, value.cast_unsigned(), &style);
    }

    /// Appends an array as `{0x1,0x2}`.
    pub(in crate::tracefs) fn array(out: &mut Vec<u8>, bytes: &[u8], elem_size: u8) {
        super::text::elements(out, bytes, super::ctype::CType::new(elem_size, false));
    }

    /// What a value that the record lacks is printed as.
    pub(in crate::tracefs) const TRUNCATED: &[u8] = super::num::Fault::Truncated.text();
}
