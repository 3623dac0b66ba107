//! Compiles the syntax tree of a print format: resolves names, determines types, and replaces fields
//! by their offsets in the record.

mod block;
mod call;
mod constants;
mod expression;
mod format_string;
mod kernel_names;
mod known_layouts;

use super::ast::Ast;
use super::int_expr::IntExpr;
use super::program::TextExpr;
use crate::tracefs::ctype::CType;
use crate::tracefs::field::Field;
use crate::tracefs::kernel_types::{KernelTypeTable, KernelTypes};
use crate::tracefs::record::ArrayLocation;

/// A compiled expression, with its type.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(IntExpr, CType),
    Text(TextExpr),
    /// A pointer to an array in the record, with the type of its elements.
    Array(ArrayLocation, CType),
    /// A name that a statement expression declares.
    Local(Local),
}

/// A name that a statement expression declares.
#[derive(Clone, Debug)]
pub(super) enum Local {
    /// `const char *x = trace_seq_buffer_ptr(p)`: the text that the statement expression prints.
    TracePosition,
    /// `static const char *x[] = { "a", "b" }`
    StringArray(Box<[Box<[u8]>]>),
    /// A union: its C name, and the member and the expression that were assigned to it.
    Union(String, Option<Box<(String, Ast)>>),
}

/// Compiles expressions. Has the fields and the local names that they may refer to.
pub(super) struct Compiler<'f> {
    fields: [&'f [Field]; 2],
    locals: Vec<(String, Local)>,
    types: &'f dyn KernelTypes,
    /// What of `types` was used.
    used_types: KernelTypeTable,
    /// Number of syntax tree nodes compiled so far.
    nodes: usize,
}

impl<'f> Compiler<'f> {
    pub(super) fn new(
        common_fields: &'f [Field],
        fields: &'f [Field],
        types: &'f dyn KernelTypes,
    ) -> Compiler<'f> {
        Compiler {
            fields: [fields, common_fields],
            locals: Vec::new(),
            types,
            used_types: KernelTypeTable::default(),
            nodes: 0,
        }
    }

    /// Returns what the compiled expressions need to know of the kernel's types.
    pub(super) fn into_used_types(self) -> KernelTypeTable {
        self.used_types
    }

    fn field(&self, name: &str) -> Result<&'f Field, String> {
        let all = self.fields.iter().flat_map(|fields| fields.iter());
        all.into_iter()
            .find(|field| field.name == name)
            .ok_or_else(|| format!("has no field {name}"))
    }

    fn compile_int(&mut self, ast: &Ast) -> Result<(IntExpr, CType), String> {
        match self.compile_value(ast)? {
            Value::Int(expr, ctype) => Ok((expr, ctype)),
            _ => Err("uses a pointer as a number".to_owned()),
        }
    }

    fn compile_text(&mut self, ast: &Ast) -> Result<TextExpr, String> {
        self.compile_value(ast)?.into_text()
    }

    fn compile_array(&mut self, ast: &Ast) -> Result<(ArrayLocation, CType), String> {
        match self.compile_value(ast)? {
            Value::Array(location, ctype) => Ok((location, ctype)),
            _ => Err("prints memory that is not in the record".to_owned()),
        }
    }

    fn compile_constant(&mut self, ast: &Ast) -> Result<u64, String> {
        self.compile_int(ast)?
            .0
            .as_constant()
            .ok_or_else(|| "uses a value in a table that is not constant".to_owned())
    }

    fn compile_string_literal(&mut self, ast: &Ast) -> Result<Box<[u8]>, String> {
        match self.compile_value(ast)? {
            Value::Text(TextExpr::Literal(bytes)) => Ok(bytes),
            _ => Err("has a name that is not a string".to_owned()),
        }
    }
}

impl Value {
    fn into_text(self) -> Result<TextExpr, String> {
        match self {
            Value::Text(text) => Ok(text),
            Value::Array(location, _) => Ok(TextExpr::CString(location)),
            // The kernel prints a null pointer like this.
            Value::Int(IntExpr::Constant(0), _) => {
                Ok(TextExpr::Literal(b"(null)".as_slice().into()))
            }
            Value::Int(..) => Err("prints text that is not in the record".to_owned()),
            Value::Local(_) => Err("prints a variable that is not text".to_owned()),
        }
    }
}
