//! Compiles the `print fmt` line of an event's format file, then prints records with it.
//!
//! A `print fmt` is C source: a format string and its arguments, as in `TP_printk`. The [`lexer`] turns
//! it into tokens, the [`parser`] turns tokens into an [`ast`], and [`compile`] turns the AST into a
//! [`program`] that reads fields by offset. C that is not supported is an error that says
//! what it is.

mod ast;
mod compile;
mod format_spec;
mod int_expr;
mod lexer;
mod parser;
mod pointer;
mod print;
mod print_text;
mod program;

use crate::tracefs::field::Field;
use crate::tracefs::kernel_types::{KernelTypeTable, KernelTypes};
use compile::Compiler;
use program::{Argument, Conversion, Piece, Program, TextExpr};

/// A compiled print format.
#[derive(Clone, Debug)]
pub(super) struct PrintFmt(Program);

impl PrintFmt {
    /// Compiles the text after `print fmt: `. Also returns what of `types` it needs.
    ///
    /// The error completes a sentence that starts with "its print format".
    pub(super) fn compile(
        text: &str,
        common_fields: &[Field],
        fields: &[Field],
        types: &dyn KernelTypes,
    ) -> Result<(PrintFmt, KernelTypeTable), String> {
        let parsed = lexer::tokenize(text).and_then(|tokens| parser::parse_arguments(&tokens));
        let arguments = parsed.map_err(|reason| format!("cannot be parsed: {reason}"))?;
        let mut compiler = Compiler::new(common_fields, fields, types);
        let pieces = compiler.compile_format_string(&arguments)?;
        let program = Program {
            pieces: pieces.into(),
        };
        Ok((PrintFmt(program), compiler.into_used_types()))
    }

    /// Appends the text of `record` to `out`.
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        self.0.print(record, out);
    }

    /// Returns the text of the argument that is printed after `label`. `None` if the argument looks
    /// its value up in a table that does not have it.
    pub(super) fn symbolic_name(&self, label: &str, record: &[u8]) -> Option<String> {
        let mut name = Vec::new();
        match self.text_after_label(label, record)? {
            TextExpr::Symbolic(symbolic) => {
                name.extend_from_slice(symbolic.name(symbolic.value.eval(record).ok()?)?)
            }
            text => text.print(record, &mut name).ok()?,
        }
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    /// Returns the values and names in the table of the argument that is printed after `label`,
    /// sorted by value. Empty if the argument has no table.
    pub(super) fn symbolic_names(&self, label: &str, record: &[u8]) -> Vec<(u64, String)> {
        let owned =
            |(value, name): (u64, &[u8])| (value, String::from_utf8_lossy(name).into_owned());
        match self.text_after_label(label, record) {
            Some(TextExpr::Symbolic(symbolic)) => symbolic.names().map(owned).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether an argument prints names for the value of the field at `offset`.
    pub(super) fn has_names_for(&self, offset: usize) -> bool {
        self.text_arguments()
            .any(|text| text.can_name_field(offset))
    }

    /// Appends the name that `record` has for the value of the field at `offset`, and the names of
    /// its flags, separated by spaces.
    pub(super) fn append_value_names(&self, offset: usize, record: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        for text in self.text_arguments() {
            let before_separator = out.len();
            if before_separator > start {
                out.push(b' ');
            }
            let name_start = out.len();
            let result = text.append_field_name(offset, record, out);
            if result.is_err() || out.len() == name_start {
                out.truncate(before_separator);
            }
        }
    }

    fn text_arguments(&self) -> impl Iterator<Item = &TextExpr> {
        self.0.pieces.iter().filter_map(|piece| match piece {
            Piece::Conversion(Conversion {
                argument: Argument::Text(text),
                ..
            }) => Some(text),
            _ => None,
        })
    }

    fn text_after_label(&self, label: &str, record: &[u8]) -> Option<&TextExpr> {
        match self.0.argument_after_label(label)? {
            Argument::Text(text) => text.resolve(record).ok(),
            _ => None,
        }
    }
}
