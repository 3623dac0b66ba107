//! Compiles GCC statement expressions: `({ ...; value; })`.
//!
//! Print formats use them to declare names, to print to the trace buffer, and to return the printed
//! text.

use super::{Compiler, Local, Value};
use crate::tracefs::ctype::{CType, TypeName};
use crate::tracefs::print_fmt::ast::{Ast, Node, Statement};
use crate::tracefs::print_fmt::int_expr::IntExpr;
use crate::tracefs::print_fmt::program::{Piece, Program, TextExpr};

impl Compiler<'_> {
    /// Compiles a statement expression to the text that it returns. The names that it declares are
    /// local to it.
    pub(super) fn compile_block(&mut self, statements: &[Statement]) -> Result<TextExpr, String> {
        let outer_locals = self.locals.len();
        let text = self.compile_statements(statements);
        self.locals.truncate(outer_locals);
        text
    }

    fn compile_statements(&mut self, statements: &[Statement]) -> Result<TextExpr, String> {
        let (last, statements) = statements
            .split_last()
            .ok_or("has an empty statement expression")?;
        let mut printed: Vec<Piece> = Vec::new();
        for statement in statements {
            match statement {
                Statement::Declare { ctype, name, value } => {
                    let local = self.compile_declaration(ctype, value.as_ref())?;
                    self.locals.push((name.clone(), local));
                }
                Statement::Assign { to, value } => self.compile_assignment(to, value)?,
                Statement::Expression(ast) => match &ast.node {
                    Node::Call(name, arguments)
                        if name == "trace_seq_printf" && !arguments.is_empty() =>
                    {
                        printed.extend(self.compile_format_string(&arguments[1..])?);
                    }
                    _ => return Err("has an unsupported statement".to_owned()),
                },
            }
        }
        let Statement::Expression(last) = last else {
            return Err("has a statement expression without a value".to_owned());
        };
        match self.compile_value(last)? {
            Value::Local(Local::TracePosition) => Ok(TextExpr::Printed(Program {
                pieces: printed.into(),
            })),
            _ => Err(
                "has a statement expression with another value than the text that it prints"
                    .to_owned(),
            ),
        }
    }

    fn compile_declaration(
        &mut self,
        ctype: &TypeName,
        value: Option<&Ast>,
    ) -> Result<Local, String> {
        match (ctype, value.map(|value| &value.node)) {
            (TypeName::Pointer(_), Some(Node::Call(name, _))) if name == "trace_seq_buffer_ptr" => {
                Ok(Local::TracePosition)
            }
            (TypeName::Pointer(_), Some(Node::Braces(texts))) => {
                let texts: Result<Vec<_>, String> = texts
                    .iter()
                    .map(|text| self.compile_string_literal(text))
                    .collect();
                Ok(Local::StringArray(texts?.into()))
            }
            (TypeName::Other(name), None) if name.starts_with("union ") => {
                Ok(Local::Union(name.clone(), None))
            }
            _ => Err("has an unsupported declaration".to_owned()),
        }
    }

    fn compile_assignment(&mut self, to: &Ast, value: &Ast) -> Result<(), String> {
        if let Node::Member(operand, member) = &to.node
            && let Node::Identifier(name) = &operand.node
            && let Some((_, Local::Union(_, assigned @ None))) = self
                .locals
                .iter_mut()
                .rev()
                .find(|(local, _)| local == name)
        {
            *assigned = Some(Box::new((member.clone(), value.clone())));
            return Ok(());
        }
        Err("has an unsupported assignment".to_owned())
    }

    /// Compiles `union.member`: bits of the value that was assigned to another member of the union.
    pub(super) fn compile_local_member(
        &mut self,
        local: &Local,
        member: &str,
    ) -> Result<Value, String> {
        let Local::Union(name, Some(assigned)) = local else {
            return Err(format!(
                "reads {member} of a variable that is not an assigned union"
            ));
        };
        let bits = self.bits_within(name, &assigned.0, member)?;
        let word = Box::new(self.compile_int(&assigned.1)?.0);
        // Members that are narrower than int are promoted to int.
        let ctype = match bits.count() {
            ..32 => CType::I32,
            32 => CType::U32,
            _ => CType::U64,
        };
        Ok(Value::Int(IntExpr::BitField { word, bits }, ctype))
    }
}
