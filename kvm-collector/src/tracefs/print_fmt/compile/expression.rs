//! Compiles expressions.

use super::{Compiler, Local, Value};
use crate::tracefs::ctype::{CType, TypeName};
use crate::tracefs::field::FieldKind;
use crate::tracefs::print_fmt::ast::{Ast, BinaryOp, Node, UnaryOp};
use crate::tracefs::print_fmt::int_expr::IntExpr;
use crate::tracefs::print_fmt::program::TextExpr;
use crate::tracefs::record::ArrayLocation;

/// The maximum number of syntax tree nodes compiled for one event. The length of the text does not
/// bound it: each use of a union in a statement expression compiles the assigned expression again.
const MAX_NODES: usize = 100_000;

impl Compiler<'_> {
    pub(super) fn compile_value(&mut self, ast: &Ast) -> Result<Value, String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("is too long".to_owned());
        }
        match &ast.node {
            Node::Integer(value, ctype) => Ok(Value::Int(IntExpr::Constant(*value), *ctype)),
            Node::String(bytes) => Ok(Value::Text(TextExpr::Literal(bytes.as_slice().into()))),
            Node::Identifier(name) => self.compile_identifier(name),
            Node::Unary(op, operand) => self.compile_unary(*op, operand),
            Node::Binary(op, left, right) => self.compile_binary(*op, left, right),
            Node::Conditional(condition, then, otherwise) => {
                self.compile_conditional(condition, then, otherwise)
            }
            Node::OrElse(value, otherwise) => self.compile_or_else(value, otherwise),
            Node::Cast(to, operand) => self.compile_cast(to, operand),
            Node::SizeOf(type_name) => compile_sizeof(type_name),
            Node::Call(name, arguments) => self.compile_call(name, arguments),
            Node::Index(array, index) => self.compile_index(array, index),
            Node::Member(operand, name) => self.compile_member(operand, name),
            Node::Block(statements) => self.compile_block(statements).map(Value::Text),
            Node::Braces(_) => Err("uses a list in braces as a value".to_owned()),
        }
    }

    fn compile_identifier(&mut self, name: &str) -> Result<Value, String> {
        if let Some((_, local)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            return Ok(Value::Local(local.clone()));
        }
        let value = self.constant(name)?;
        let ctype = if i32::try_from(value).is_ok() {
            CType::I32
        } else {
            CType::I64
        };
        Ok(Value::Int(IntExpr::Constant(value.cast_unsigned()), ctype))
    }

    fn compile_unary(&mut self, op: UnaryOp, operand: &Ast) -> Result<Value, String> {
        match op {
            UnaryOp::AddressOf => return self.compile_address_of(operand),
            UnaryOp::Deref => {
                let (array, ctype) = self.compile_array(operand)?;
                return Ok(Value::Int(
                    IntExpr::Element {
                        array,
                        ctype,
                        index: Box::new(IntExpr::Constant(0)),
                    },
                    ctype,
                ));
            }
            _ => {}
        }
        let (operand, ctype) = self.compile_int(operand)?;
        let promoted = ctype.promoted();
        let expr = IntExpr::Unary(op, promoted, Box::new(operand)).fold();
        Ok(Value::Int(
            expr,
            if op == UnaryOp::Not {
                CType::I32
            } else {
                promoted
            },
        ))
    }

    fn compile_address_of(&mut self, operand: &Ast) -> Result<Value, String> {
        match self.compile_value(operand)? {
            Value::Int(IntExpr::Load { offset, ctype }, _) => Ok(Value::Array(
                ArrayLocation::Fixed {
                    offset,
                    size: usize::from(ctype.size),
                },
                ctype,
            )),
            Value::Int(
                IntExpr::Element {
                    array,
                    ctype,
                    index,
                },
                _,
            ) if index.as_constant() == Some(0) => Ok(Value::Array(array, ctype)),
            Value::Array(location, ctype) => Ok(Value::Array(location, ctype)),
            _ => Err("takes the address of something that is not in the record".to_owned()),
        }
    }

    fn compile_binary(&mut self, op: BinaryOp, left: &Ast, right: &Ast) -> Result<Value, String> {
        let (left, left_type) = self.compile_int(left)?;
        let (right, right_type) = self.compile_int(right)?;
        let (common_type, result_type) = match op {
            BinaryOp::Shl | BinaryOp::Shr => (left_type.promoted(), left_type.promoted()),
            BinaryOp::Lt
            | BinaryOp::Le
            | BinaryOp::Gt
            | BinaryOp::Ge
            | BinaryOp::Eq
            | BinaryOp::Ne => (left_type.common_type(right_type), CType::I32),
            BinaryOp::LogicalAnd | BinaryOp::LogicalOr => (CType::U64, CType::I32),
            _ => (
                left_type.common_type(right_type),
                left_type.common_type(right_type),
            ),
        };
        let operands = match op {
            BinaryOp::Shl | BinaryOp::Shr => (left, right),
            _ => (
                left.convert(left_type, common_type),
                right.convert(right_type, common_type),
            ),
        };
        Ok(Value::Int(
            IntExpr::Binary(op, common_type, Box::new(operands)).fold(),
            result_type,
        ))
    }

    fn compile_conditional(
        &mut self,
        condition: &Ast,
        then: &Ast,
        otherwise: &Ast,
    ) -> Result<Value, String> {
        let (condition, _) = self.compile_int(condition)?;
        match (self.compile_value(then)?, self.compile_value(otherwise)?) {
            (Value::Int(a, a_type), Value::Int(b, b_type)) => {
                let ctype = a_type.common_type(b_type);
                let parts = (
                    condition,
                    a.convert(a_type, ctype),
                    b.convert(b_type, ctype),
                );
                Ok(Value::Int(
                    IntExpr::Conditional(Box::new(parts)).fold(),
                    ctype,
                ))
            }
            _ => Ok(Value::Text(TextExpr::Conditional(Box::new((
                condition,
                self.compile_text(then)?,
                self.compile_text(otherwise)?,
            ))))),
        }
    }

    fn compile_or_else(&mut self, value: &Ast, otherwise: &Ast) -> Result<Value, String> {
        match (self.compile_value(value)?, self.compile_value(otherwise)?) {
            (Value::Int(a, a_type), Value::Int(b, b_type)) => {
                let ctype = a_type.common_type(b_type);
                let operands = (a.convert(a_type, ctype), b.convert(b_type, ctype));
                let expr = IntExpr::OrElse(Box::new(operands)).fold();
                Ok(Value::Int(expr, ctype))
            }
            // A null pointer.
            (Value::Int(IntExpr::Constant(0), _), otherwise) => Ok(otherwise),
            (value @ Value::Int(..), _) => value.into_text().map(Value::Text),
            // The address of something in the record, or of a literal, is not 0.
            (value, _) => Ok(value),
        }
    }

    fn compile_cast(&mut self, to: &TypeName, operand: &Ast) -> Result<Value, String> {
        match (to, self.compile_value(operand)?) {
            (TypeName::Int(ctype), Value::Int(expr, from)) => {
                Ok(Value::Int(expr.convert(from, *ctype), *ctype))
            }
            (TypeName::Other(name), Value::Int(expr, from)) if name.starts_with("enum ") => {
                Ok(Value::Int(expr.convert(from, CType::U32), CType::U32))
            }
            (TypeName::Bool, Value::Int(expr, _)) => {
                let not = IntExpr::Unary(UnaryOp::Not, CType::U64, Box::new(expr)).fold();
                Ok(Value::Int(
                    IntExpr::Unary(UnaryOp::Not, CType::I32, Box::new(not)).fold(),
                    CType::U8,
                ))
            }
            (TypeName::Pointer(_), Value::Int(expr, _)) => Ok(Value::Int(expr, CType::U64)),
            (TypeName::Pointer(target), Value::Array(location, ctype)) => {
                Ok(Value::Array(location, target.unwrap_or(ctype)))
            }
            (TypeName::Pointer(_), Value::Text(text)) => Ok(Value::Text(text)),
            _ => Err("casts something that is not in the record".to_owned()),
        }
    }

    fn compile_index(&mut self, array: &Ast, index: &Ast) -> Result<Value, String> {
        match self.compile_value(array)? {
            Value::Array(array, ctype) => {
                let index = Box::new(self.compile_int(index)?.0);
                Ok(Value::Int(
                    IntExpr::Element {
                        array,
                        ctype,
                        index,
                    },
                    ctype,
                ))
            }
            Value::Local(Local::StringArray(texts)) => Ok(Value::Text(TextExpr::Indexed(
                texts,
                self.compile_int(index)?.0,
            ))),
            _ => Err("indexes something that is not in the record".to_owned()),
        }
    }

    fn compile_member(&mut self, operand: &Ast, name: &str) -> Result<Value, String> {
        if matches!(&operand.node, Node::Identifier(record) if record == "REC") {
            return self.compile_record_field(name);
        }
        match self.compile_value(operand)? {
            Value::Local(local) => self.compile_local_member(&local, name),
            _ => Err(format!(
                "reads {name} of something that is not in the record"
            )),
        }
    }

    fn compile_record_field(&self, name: &str) -> Result<Value, String> {
        // `__data_loc_x` is the word that locates the dynamic array `x`.
        let dynamic_array = name
            .strip_prefix("__data_loc_")
            .or_else(|| name.strip_prefix("__rel_loc_"));
        let field = self.field(dynamic_array.unwrap_or(name))?;
        let offset = field.offset;
        match field.kind {
            FieldKind::Integer | FieldKind::Bool | FieldKind::Pointer => {
                let ctype = u8::try_from(field.size).map(|size| CType::new(size, field.signed));
                let ctype = ctype.map_err(|_| format!("has a field {name} of unsupported size"))?;
                Ok(Value::Int(IntExpr::Load { offset, ctype }, ctype))
            }
            FieldKind::Chars => Ok(Value::Array(
                ArrayLocation::Fixed {
                    offset,
                    size: field.size,
                },
                CType::U8,
            )),
            FieldKind::Array { elem_size, .. } => {
                let location = ArrayLocation::Fixed {
                    offset,
                    size: field.size,
                };
                Ok(Value::Array(location, CType::new(elem_size, field.signed)))
            }
            FieldKind::DataLoc { .. } | FieldKind::RelLoc { .. } if dynamic_array.is_some() => {
                Ok(Value::Int(
                    IntExpr::Load {
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

fn compile_sizeof(type_name: &TypeName) -> Result<Value, String> {
    let size = match type_name {
        TypeName::Int(ctype) => u64::from(ctype.size),
        TypeName::Bool => 1,
        TypeName::Pointer(_) => 8,
        TypeName::Other(name) => return Err(format!("has sizeof({name})")),
    };
    Ok(Value::Int(IntExpr::Constant(size), CType::U64))
}
