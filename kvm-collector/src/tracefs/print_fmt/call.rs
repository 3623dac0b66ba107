//! The functions that print formats call.

use super::ast::{Ast, Node};
use super::compile::{Compiler, Value};
use super::ctype::CType;
use super::memory::Memory;
use super::num::Num;
use super::text::{Flags, Names, Symbolic, Text};
use crate::tracefs::field::FieldKind;

impl Compiler<'_> {
    pub(super) fn call(&mut self, name: &str, arguments: &[Ast]) -> Result<Value, String> {
        match (name, arguments) {
            (
                "__print_symbolic" | "__print_symbolic_u64" | "__print_symbolic64",
                [value, table @ ..],
            ) => {
                let value = self.number(value)?.0;
                Ok(Value::Text(Text::Symbolic(Symbolic::new(
                    value,
                    self.table(table)?,
                ))))
            }
            ("__print_flags" | "__print_flags_u64", [value, delimiter, table @ ..]) => {
                let value = self.number(value)?.0;
                let delimiter = self.literal(delimiter)?;
                Ok(Value::Text(Text::Flags(Flags {
                    value,
                    delimiter,
                    names: self.table(table)?.into(),
                })))
            }
            ("__print_hex" | "__print_hex_str", [memory, length]) => {
                let memory = self.memory(memory)?.0;
                let length = self.number(length)?.0;
                Ok(Value::Text(Text::Hex {
                    memory,
                    length,
                    spaced: name == "__print_hex",
                }))
            }
            ("__print_array", [memory, count, size]) => {
                let memory = self.memory(memory)?.0;
                let (count, size) = (self.number(count)?.0, self.number(size)?.0);
                Ok(Value::Text(Text::Array {
                    memory,
                    count,
                    size,
                }))
            }
            ("__get_str" | "__get_rel_str", [field]) => {
                Ok(Value::Text(Text::Chars(self.dynamic(field)?.0)))
            }
            ("__get_dynamic_array" | "__get_rel_dynamic_array", [field]) => {
                let (memory, ctype) = self.dynamic(field)?;
                Ok(Value::Memory(memory, ctype))
            }
            ("__get_dynamic_array_len" | "__get_rel_dynamic_array_len", [field]) => {
                Ok(Value::Num(Num::Length(self.dynamic(field)?.0), CType::U32))
            }
            (
                "__get_bitmask" | "__get_rel_bitmask" | "__get_cpumask" | "__get_rel_cpumask",
                [field],
            ) => Ok(Value::Text(Text::Bitmask(self.dynamic(field)?.0))),
            ("__builtin_expect", [value, _]) => self.value(value),
            _ => Err(format!("calls {name}()")),
        }
    }

    /// A dynamic array, and the type of its elements.
    fn dynamic(&self, field: &Ast) -> Result<(Memory, CType), String> {
        let Node::Name(name) = &field.node else {
            return Err("names a dynamic array in an odd way".to_owned());
        };
        let field = self.field(name)?;
        let (elem_size, relative) = match field.kind {
            FieldKind::DataLoc { elem_size } => (elem_size, false),
            FieldKind::RelLoc { elem_size } => (elem_size, true),
            _ => return Err(format!("takes the field {name} for a dynamic array")),
        };
        Ok((
            Memory::Dynamic {
                at: field.offset,
                relative,
            },
            CType::new(elem_size, field.signed),
        ))
    }

    /// `{ value, "name" }, ...`; `{ }` is how an empty table is written, and a name of NULL ends one, as for the kernel.
    fn table(&mut self, entries: &[Ast]) -> Result<Names, String> {
        let mut table = Vec::with_capacity(entries.len());
        for entry in entries {
            let (value, name) = match &entry.node {
                Node::List(pair) if pair.is_empty() => continue,
                Node::List(pair) if pair.len() == 2 => (&pair[0], self.value(&pair[1])?),
                _ => return Err("has an odd table".to_owned()),
            };
            match name {
                Value::Text(Text::Literal(name)) => table.push((self.constant(value)?, name)),
                Value::Num(Num::Const(0), _) => break,
                _ => return Err("has a name that is not a string".to_owned()),
            }
        }
        Ok(table)
    }

    pub(super) fn literal(&mut self, ast: &Ast) -> Result<Box<[u8]>, String> {
        match self.value(ast)? {
            Value::Text(Text::Literal(bytes)) => Ok(bytes),
            _ => Err("has a name that is not a string".to_owned()),
        }
    }
}
