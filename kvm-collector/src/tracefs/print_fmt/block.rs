//! GCC statement expressions, as far as the kernel's print formats use them: they declare names, print into the trace
//! buffer on the side, and give what was printed as their value.

use super::ast::{Ast, Node, Statement};
use super::compile::{Compiler, Value};
use super::ctype::{CType, TypeName};
use super::format_string;
use super::kernel;
use super::num::Num;
use super::program::{Piece, Program};
use super::text::Text;

/// What a declared name stands for.
#[derive(Clone, Debug)]
pub(super) enum Local {
    /// `const char *x = trace_seq_buffer_ptr(p)`: what is printed from here on.
    Printed,
    /// `static const char *x[] = { "a", "b" }`
    Strings(Box<[Box<[u8]>]>),
    /// A union, and the word that was assigned to it.
    Union(String, Option<Box<Ast>>),
}

impl Compiler<'_> {
    /// Compiles the block to the text that is its value. Names declared inside end with it.
    pub(super) fn block(&mut self, statements: &[Statement]) -> Result<Text, String> {
        let outer = self.locals.len();
        let text = self.statements(statements);
        self.locals.truncate(outer);
        text
    }

    fn statements(&mut self, statements: &[Statement]) -> Result<Text, String> {
        let (last, statements) = statements.split_last().ok_or("has an empty block")?;
        let mut printed: Vec<Piece> = Vec::new();
        for statement in statements {
            match statement {
                Statement::Declare { ctype, name, value } => {
                    let local = self.declared(ctype, value.as_ref())?;
                    self.locals.push((name.clone(), local));
                }
                Statement::Assign { to, value } => self.assign(to, value)?,
                Statement::Expression(ast) => match &ast.node {
                    Node::Call(name, arguments)
                        if name == "trace_seq_printf" && !arguments.is_empty() =>
                    {
                        printed.extend(format_string::compile(self, &arguments[1..])?);
                    }
                    _ => return Err("has a statement with an unknown effect".to_owned()),
                },
            }
        }
        let Statement::Expression(last) = last else {
            return Err("has a block without a value".to_owned());
        };
        match self.value(last)? {
            Value::Local(Local::Printed) => Ok(Text::Printed(Program {
                pieces: printed.into(),
            })),
            _ => Err("has a block whose value is not what it printed".to_owned()),
        }
    }

    fn declared(&mut self, ctype: &TypeName, value: Option<&Ast>) -> Result<Local, String> {
        match (ctype, value.map(|value| &value.node)) {
            (TypeName::Pointer(_), Some(Node::Call(name, _))) if name == "trace_seq_buffer_ptr" => {
                Ok(Local::Printed)
            }
            (TypeName::Pointer(_), Some(Node::List(texts))) => {
                let texts: Result<Vec<_>, String> =
                    texts.iter().map(|text| self.literal(text)).collect();
                Ok(Local::Strings(texts?.into()))
            }
            (TypeName::Other(name), None) if kernel::union_member(name, "word").is_some() => {
                Ok(Local::Union(name.clone(), None))
            }
            _ => Err("declares something unknown".to_owned()),
        }
    }

    fn assign(&mut self, to: &Ast, value: &Ast) -> Result<(), String> {
        if let Node::Member(of, member) = &to.node
            && let Node::Name(name) = &of.node
            && member == "word"
            && let Some((_, Local::Union(_, word @ None))) = self
                .locals
                .iter_mut()
                .rev()
                .find(|(local, _)| local == name)
        {
            *word = Some(Box::new(value.clone()));
            return Ok(());
        }
        Err("assigns to something unknown".to_owned())
    }

    /// `union.member`: bits of the word that was assigned.
    pub(super) fn local_member(&mut self, local: &Local, member: &str) -> Result<Value, String> {
        let Local::Union(name, Some(word)) = local else {
            return Err(format!("reads {member} of a local that has none"));
        };
        let (shift, width) = kernel::union_member(name, member)
            .ok_or_else(|| format!("reads {name}.{member}, whose place it does not give"))?;
        let word = Box::new(self.number(word)?.0);
        // A bit field narrower than int is promoted to int.
        let ctype = if width < 32 { CType::I32 } else { CType::U32 };
        Ok(Value::Num(Num::Bits { word, shift, width }, ctype))
    }
}
