//! From an [`Ast`] to expressions bound to the fields of a record.

use super::ast::{Ast, Binary, Node, Unary};
use super::block::Local;
use super::ctype::{CType, TypeName};
use super::kernel;
use super::memory::Memory;
use super::num::Num;
use super::text::Text;
use crate::tracefs::field::{Field, FieldKind};

/// How many nodes an event's expressions may have. Statement expressions repeat what they assign, so the text's length
/// alone does not bound this.
const MAX_NODES: usize = 100_000;

/// A compiled expression and what it is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Num(Num, CType),
    Text(Text),
    /// A pointer into the record, and what it points to.
    Memory(Memory, CType),
    /// A name that a statement expression declared.
    Local(Local),
}

impl Value {
    fn into_text(self) -> Result<Text, String> {
        match self {
            Value::Text(text) => Ok(text),
            Value::Memory(memory, _) => Ok(Text::Chars(memory)),
            Value::Num(Num::Const(0), _) => Ok(Text::Literal(b"(null)".as_slice().into())),
            Value::Num(..) => Err("prints text that is not in the record".to_owned()),
            Value::Local(_) => Err("prints a local that is not text".to_owned()),
        }
    }
}

/// The fields that expressions may name, and the names declared so far.
pub(super) struct Compiler<'f> {
    fields: [&'f [Field]; 2],
    pub(super) locals: Vec<(String, Local)>,
    nodes: usize,
}

impl<'f> Compiler<'f> {
    pub(super) fn new(common: &'f [Field], fields: &'f [Field]) -> Compiler<'f> {
        Compiler {
            fields: [fields, common],
            locals: Vec::new(),
            nodes: 0,
        }
    }

    pub(super) fn field(&self, name: &str) -> Result<&'f Field, String> {
        let all = self.fields.iter().flat_map(|fields| fields.iter());
        all.into_iter()
            .find(|field| field.name == name)
            .ok_or_else(|| format!("has no field {name}"))
    }

    pub(super) fn number(&mut self, ast: &Ast) -> Result<(Num, CType), String> {
        match self.value(ast)? {
            Value::Num(num, ctype) => Ok((num, ctype)),
            _ => Err("uses a pointer as a number".to_owned()),
        }
    }

    pub(super) fn text(&mut self, ast: &Ast) -> Result<Text, String> {
        self.value(ast)?.into_text()
    }

    pub(super) fn memory(&mut self, ast: &Ast) -> Result<(Memory, CType), String> {
        match self.value(ast)? {
            Value::Memory(memory, ctype) => Ok((memory, ctype)),
            _ => Err("prints memory that is not in the record".to_owned()),
        }
    }

    pub(super) fn constant(&mut self, ast: &Ast) -> Result<u64, String> {
        self.number(ast)?
            .0
            .constant()
            .ok_or_else(|| "has a table that is not constant".to_owned())
    }

    pub(super) fn value(&mut self, ast: &Ast) -> Result<Value, String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("is too long".to_owned());
        }
        match &ast.node {
            Node::Int(value, ctype) => Ok(Value::Num(Num::Const(*value), *ctype)),
            Node::Str(bytes) => Ok(Value::Text(Text::Literal(bytes.as_slice().into()))),
            Node::Name(name) => self.name(name),
            Node::Unary(op, operand) => self.unary(*op, operand),
            Node::Binary(op, left, right) => self.binary(*op, left, right),
            Node::Cond(condition, yes, no) => self.condition(condition, yes, no),
            Node::Cast(to, operand) => self.cast(to, operand),
            Node::SizeOf(of) => size_of(of),
            Node::Call(name, arguments) => self.call(name, arguments),
            Node::Index(array, index) => self.index(array, index),
            Node::Member(of, name) => self.member(of, name),
            Node::Block(statements) => self.block(statements).map(Value::Text),
            Node::List(_) => Err("uses a list as a value".to_owned()),
        }
    }

    fn name(&self, name: &str) -> Result<Value, String> {
        if let Some((_, local)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            return Ok(Value::Local(local.clone()));
        }
        let value = kernel::constant(name)
            .ok_or_else(|| format!("names {name}, whose value it does not give"))?;
        Ok(Value::Num(
            Num::Const(i64::from(value).cast_unsigned()),
            CType::I32,
        ))
    }

    fn unary(&mut self, op: Unary, operand: &Ast) -> Result<Value, String> {
        match op {
            Unary::AddressOf => return self.address_of(operand),
            Unary::Deref => {
                let (memory, ctype) = self.memory(operand)?;
                return Ok(Value::Num(
                    Num::Element {
                        memory,
                        ctype,
                        index: Box::new(Num::Const(0)),
                    },
                    ctype,
                ));
            }
            _ => {}
        }
        let (operand, ctype) = self.number(operand)?;
        let promoted = ctype.promoted();
        let num = folded(Num::Unary(op, promoted, Box::new(operand)));
        Ok(Value::Num(
            num,
            if op == Unary::Not {
                CType::I32
            } else {
                promoted
            },
        ))
    }

    fn address_of(&mut self, operand: &Ast) -> Result<Value, String> {
        match self.value(operand)? {
            Value::Num(Num::Load { offset, ctype }, _) => Ok(Value::Memory(
                Memory::Fixed {
                    offset,
                    size: usize::from(ctype.size),
                },
                ctype,
            )),
            Value::Num(
                Num::Element {
                    memory,
                    ctype,
                    index,
                },
                _,
            ) if index.constant() == Some(0) => Ok(Value::Memory(memory, ctype)),
            Value::Memory(memory, ctype) => Ok(Value::Memory(memory, ctype)),
            _ => Err("takes the address of something that is not in the record".to_owned()),
        }
    }

    fn binary(&mut self, op: Binary, left: &Ast, right: &Ast) -> Result<Value, String> {
        let (left, left_type) = self.number(left)?;
        let (right, right_type) = self.number(right)?;
        let (operands, result) = match op {
            Binary::Shl | Binary::Shr => (left_type.promoted(), left_type.promoted()),
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => {
                (left_type.common(right_type), CType::I32)
            }
            Binary::LogicalAnd | Binary::LogicalOr => (CType::U64, CType::I32),
            _ => (left_type.common(right_type), left_type.common(right_type)),
        };
        let sides = match op {
            Binary::Shl | Binary::Shr => (left, right),
            _ => (
                converted(left, left_type, operands),
                converted(right, right_type, operands),
            ),
        };
        Ok(Value::Num(
            folded(Num::Binary(op, operands, Box::new(sides))),
            result,
        ))
    }

    fn condition(&mut self, condition: &Ast, yes: &Ast, no: &Ast) -> Result<Value, String> {
        let (condition, _) = self.number(condition)?;
        match (self.value(yes)?, self.value(no)?) {
            (Value::Num(a, a_type), Value::Num(b, b_type)) => {
                let ctype = a_type.common(b_type);
                let parts = (
                    condition,
                    converted(a, a_type, ctype),
                    converted(b, b_type, ctype),
                );
                Ok(Value::Num(folded(Num::Cond(Box::new(parts))), ctype))
            }
            _ => Ok(Value::Text(Text::Cond(Box::new((
                condition,
                self.text(yes)?,
                self.text(no)?,
            ))))),
        }
    }

    fn cast(&mut self, to: &TypeName, operand: &Ast) -> Result<Value, String> {
        match (to, self.value(operand)?) {
            (TypeName::Int(ctype), Value::Num(num, from)) => {
                Ok(Value::Num(converted(num, from, *ctype), *ctype))
            }
            (TypeName::Other(name), Value::Num(num, from)) if name.starts_with("enum ") => {
                Ok(Value::Num(converted(num, from, CType::U32), CType::U32))
            }
            (TypeName::Bool, Value::Num(num, _)) => {
                let not = folded(Num::Unary(Unary::Not, CType::U64, Box::new(num)));
                Ok(Value::Num(
                    folded(Num::Unary(Unary::Not, CType::I32, Box::new(not))),
                    CType::U8,
                ))
            }
            (TypeName::Pointer(_), Value::Num(num, _)) => Ok(Value::Num(num, CType::U64)),
            (TypeName::Pointer(target), Value::Memory(memory, ctype)) => {
                Ok(Value::Memory(memory, target.unwrap_or(ctype)))
            }
            (TypeName::Pointer(_), Value::Text(text)) => Ok(Value::Text(text)),
            _ => Err("has a cast of something that is not in the record".to_owned()),
        }
    }

    fn index(&mut self, array: &Ast, index: &Ast) -> Result<Value, String> {
        match self.value(array)? {
            Value::Memory(memory, ctype) => {
                let index = Box::new(self.number(index)?.0);
                Ok(Value::Num(
                    Num::Element {
                        memory,
                        ctype,
                        index,
                    },
                    ctype,
                ))
            }
            Value::Local(Local::Strings(texts)) => {
                Ok(Value::Text(Text::OneOf(texts, self.number(index)?.0)))
            }
            _ => Err("indexes something that is not in the record".to_owned()),
        }
    }

    fn member(&mut self, of: &Ast, name: &str) -> Result<Value, String> {
        if matches!(&of.node, Node::Name(record) if record == "REC") {
            return self.record_field(name);
        }
        match self.value(of)? {
            Value::Local(local) => self.local_member(&local, name),
            _ => Err(format!(
                "reads {name} of something that is not in the record"
            )),
        }
    }

    fn record_field(&self, name: &str) -> Result<Value, String> {
        let location = name
            .strip_prefix("__data_loc_")
            .or_else(|| name.strip_prefix("__rel_loc_"));
        let field = self.field(location.unwrap_or(name))?;
        let offset = field.offset;
        match field.kind {
            FieldKind::Integer | FieldKind::Bool | FieldKind::Pointer => {
                let ctype = u8::try_from(field.size).map(|size| CType::new(size, field.signed));
                let ctype = ctype.map_err(|_| format!("has a field {name} of odd size"))?;
                Ok(Value::Num(Num::Load { offset, ctype }, ctype))
            }
            FieldKind::Chars => Ok(Value::Memory(
                Memory::Fixed {
                    offset,
                    size: field.size,
                },
                CType::U8,
            )),
            FieldKind::Array { elem_size, .. } => {
                let memory = Memory::Fixed {
                    offset,
                    size: field.size,
                };
                Ok(Value::Memory(memory, CType::new(elem_size, field.signed)))
            }
            FieldKind::DataLoc { .. } | FieldKind::RelLoc { .. } if location.is_some() => {
                Ok(Value::Num(
                    Num::Load {
                        offset,
                        ctype: CType::U32,
                    },
                    CType::U32,
                ))
            }
            _ => Err(format!("uses the field {name}, of type {}", field.c_type)),
        }
    }
}

fn size_of(of: &TypeName) -> Result<Value, String> {
    let size = match of {
        TypeName::Int(ctype) => u64::from(ctype.size),
        TypeName::Bool => 1,
        TypeName::Pointer(_) => 8,
        TypeName::Other(name) => return Err(format!("has sizeof({name})")),
    };
    Ok(Value::Num(Num::Const(size), CType::U64))
}

/// `num` of type `from` as a value of type `to`; values of `from` that already have the form of `to` need no operation.
pub(super) fn converted(num: Num, from: CType, to: CType) -> Num {
    let same = to.size == 8
        || (to.size >= from.size && to.signed == from.signed)
        || (to.size > from.size && to.signed);
    if same {
        num
    } else {
        folded(Num::Convert(to, Box::new(num)))
    }
}

/// The value of `num` in its place, if it is the same for every record.
fn folded(num: Num) -> Num {
    let constant = match &num {
        Num::Unary(_, _, operand) | Num::Convert(_, operand) => operand.constant().is_some(),
        Num::Binary(_, _, sides) => sides.0.constant().is_some() && sides.1.constant().is_some(),
        Num::Cond(parts) => {
            parts.0.constant().is_some()
                && parts.1.constant().is_some()
                && parts.2.constant().is_some()
        }
        _ => false,
    };
    match num.eval(&[]) {
        Ok(value) if constant => Num::Const(value),
        _ => num,
    }
}
