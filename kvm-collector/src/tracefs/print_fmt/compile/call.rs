//! Compiles calls of the functions and macros that print formats use.

use super::{Compiler, Value};
use crate::tracefs::ctype::CType;
use crate::tracefs::field::FieldKind;
use crate::tracefs::print_fmt::ast::{Ast, Node};
use crate::tracefs::print_fmt::int_expr::IntExpr;
use crate::tracefs::print_fmt::program::{Flags, NameTable, Symbolic, TextExpr};
use crate::tracefs::record::ArrayLocation;

impl Compiler<'_> {
    pub(super) fn compile_call(&mut self, name: &str, arguments: &[Ast]) -> Result<Value, String> {
        match (name, arguments) {
            (
                "__print_symbolic" | "__print_symbolic_u64" | "__print_symbolic64",
                [value, table @ ..],
            ) => {
                let value = self.compile_int(value)?.0;
                Ok(Value::Text(TextExpr::Symbolic(Symbolic::new(
                    value,
                    self.compile_table(table)?,
                ))))
            }
            ("__print_flags" | "__print_flags_u64", [value, delimiter, table @ ..]) => {
                let value = self.compile_int(value)?.0;
                let delimiter = self.compile_string_literal(delimiter)?;
                Ok(Value::Text(TextExpr::Flags(Flags {
                    value,
                    delimiter,
                    names: self.compile_table(table)?.into(),
                })))
            }
            ("__print_hex" | "__print_hex_str", [array, length]) => {
                let array = self.compile_array(array)?.0;
                let length = self.compile_int(length)?.0;
                Ok(Value::Text(TextExpr::HexBytes {
                    array,
                    length,
                    spaced: name == "__print_hex",
                }))
            }
            ("__print_array", [array, count, size]) => {
                let array = self.compile_array(array)?.0;
                let (count, size) = (self.compile_int(count)?.0, self.compile_int(size)?.0);
                Ok(Value::Text(TextExpr::Array { array, count, size }))
            }
            ("__get_str" | "__get_rel_str", [field]) => Ok(Value::Text(TextExpr::CString(
                self.compile_dynamic_array(field)?.0,
            ))),
            ("__get_dynamic_array" | "__get_rel_dynamic_array", [field]) => {
                let (array, ctype) = self.compile_dynamic_array(field)?;
                Ok(Value::Array(array, ctype))
            }
            ("__get_dynamic_array_len" | "__get_rel_dynamic_array_len", [field]) => Ok(Value::Int(
                IntExpr::ArrayLen(self.compile_dynamic_array(field)?.0),
                CType::U32,
            )),
            (
                "__get_bitmask" | "__get_rel_bitmask" | "__get_cpumask" | "__get_rel_cpumask",
                [field],
            ) => Ok(Value::Text(TextExpr::Bitmask(
                self.compile_dynamic_array(field)?.0,
            ))),
            ("__builtin_expect", [value, _]) => self.compile_value(value),
            _ => Err(format!("calls {name}(), which is not supported")),
        }
    }

    /// Returns the location of the dynamic array that `field` names, and the type of its elements.
    fn compile_dynamic_array(&self, field: &Ast) -> Result<(ArrayLocation, CType), String> {
        let Node::Identifier(name) = &field.node else {
            return Err("does not name a dynamic array by its field".to_owned());
        };
        let field = self.field(name)?;
        let (elem_size, relative) = match field.kind {
            FieldKind::DataLoc { elem_size } => (elem_size, false),
            FieldKind::RelLoc { elem_size } => (elem_size, true),
            _ => return Err(format!("uses the field {name} as a dynamic array")),
        };
        Ok((
            ArrayLocation::Dynamic {
                word_offset: field.offset,
                relative,
            },
            CType::new(elem_size, field.signed),
        ))
    }

    /// Compiles a table: `{ value, "name" }, ...`. An empty table is written `{ }`. As in the kernel, a
    /// NULL name ends the table.
    fn compile_table(&mut self, entries: &[Ast]) -> Result<NameTable, String> {
        let mut table = Vec::with_capacity(entries.len());
        for entry in entries {
            let (value, name) = match &entry.node {
                Node::Braces(pair) if pair.is_empty() => continue,
                Node::Braces(pair) if pair.len() == 2 => (&pair[0], self.compile_value(&pair[1])?),
                _ => return Err("has a malformed table".to_owned()),
            };
            match name {
                Value::Text(TextExpr::Literal(name)) => {
                    table.push((self.compile_constant(value)?, name))
                }
                Value::Int(IntExpr::Constant(0), _) => break,
                _ => return Err("has a name that is not a string".to_owned()),
            }
        }
        Ok(table)
    }
}
