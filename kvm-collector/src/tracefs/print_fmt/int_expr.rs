//! Compiled integer expressions, and their evaluation on a record with C's rules.

use super::ast::{BinaryOp, UnaryOp};
use crate::tracefs::ctype::CType;
use crate::tracefs::kernel_types::BitRange;
use crate::tracefs::record::{ArrayLocation, ValueError, read_int};

/// An integer expression. All values are in the 64-bit form of [`CType::wrap`].
#[derive(Clone, Debug)]
pub(super) enum IntExpr {
    Constant(u64),
    /// The value of a field.
    Load {
        offset: usize,
        ctype: CType,
    },
    /// An element of an array in the record.
    Element {
        array: ArrayLocation,
        ctype: CType,
        index: Box<IntExpr>,
    },
    /// The length of a dynamic array in bytes.
    ArrayLen(ArrayLocation),
    /// Bits of an unsigned word.
    BitField {
        word: Box<IntExpr>,
        bits: BitRange,
    },
    Convert(CType, Box<IntExpr>),
    Unary(UnaryOp, CType, Box<IntExpr>),
    /// The type is the common type of the operands, which are already converted to it.
    Binary(BinaryOp, CType, Box<(IntExpr, IntExpr)>),
    /// `(condition, then, otherwise)`
    Conditional(Box<(IntExpr, IntExpr, IntExpr)>),
    /// The first value if it is not 0, otherwise the second.
    OrElse(Box<(IntExpr, IntExpr)>),
}

impl IntExpr {
    /// Returns the offset of the field in this expression, if it consists of one field and constants.
    pub(super) fn single_field_offset(&self) -> Option<usize> {
        match self {
            IntExpr::Load { offset, .. } => Some(*offset),
            IntExpr::Convert(_, value) | IntExpr::Unary(_, _, value) => value.single_field_offset(),
            IntExpr::Binary(_, _, operands) => match &**operands {
                (value, IntExpr::Constant(_)) | (IntExpr::Constant(_), value) => {
                    value.single_field_offset()
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Computes the value for a record.
    pub(super) fn eval(&self, record: &[u8]) -> Result<u64, ValueError> {
        match self {
            IntExpr::Constant(value) => Ok(*value),
            IntExpr::Load { offset, ctype } => read_int(record, *offset, *ctype),
            IntExpr::Element {
                array,
                ctype,
                index,
            } => {
                let bytes = array.bytes(record)?;
                let offset = usize::try_from(index.eval(record)?)
                    .ok()
                    .and_then(|index| index.checked_mul(usize::from(ctype.size)))
                    .filter(|offset| *offset < bytes.len())
                    .ok_or(ValueError::Undefined)?;
                read_int(bytes, offset, *ctype)
            }
            IntExpr::ArrayLen(array) => Ok(array.bytes(record)?.len() as u64),
            IntExpr::BitField { word, bits } => {
                let shifted = word.eval(record)?.checked_shr(u32::from(bits.first()));
                Ok(shifted.unwrap_or(0) & u64::MAX >> (64 - bits.count()))
            }
            IntExpr::Convert(ctype, value) => Ok(ctype.wrap(value.eval(record)?)),
            IntExpr::Unary(op, ctype, value) => Ok(eval_unary(*op, *ctype, value.eval(record)?)),
            IntExpr::Binary(op, ctype, operands) => {
                let left = operands.0.eval(record)?;
                match (op, left != 0) {
                    (BinaryOp::LogicalAnd, false) => Ok(0),
                    (BinaryOp::LogicalOr, true) => Ok(1),
                    _ => eval_binary(*op, *ctype, left, operands.1.eval(record)?),
                }
            }
            IntExpr::OrElse(operands) => match operands.0.eval(record)? {
                0 => operands.1.eval(record),
                value => Ok(value),
            },
            IntExpr::Conditional(parts) => if parts.0.eval(record)? != 0 {
                &parts.1
            } else {
                &parts.2
            }
            .eval(record),
        }
    }

    /// Returns the value if it is a constant.
    pub(super) fn as_constant(&self) -> Option<u64> {
        if let IntExpr::Constant(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// Converts the expression from one type to another. Adds no operation if every value stays the
    /// same in the form of [`CType::wrap`].
    pub(super) fn convert(self, from: CType, to: CType) -> IntExpr {
        let is_unchanged = to.size == 8
            || (to.size >= from.size && to.signed == from.signed)
            || (to.size > from.size && to.signed);
        if is_unchanged {
            self
        } else {
            IntExpr::Convert(to, Box::new(self)).fold()
        }
    }

    /// Replaces an operation on constants by its result.
    pub(super) fn fold(self) -> IntExpr {
        let is_constant = match &self {
            IntExpr::Unary(_, _, operand) | IntExpr::Convert(_, operand) => {
                operand.as_constant().is_some()
            }
            IntExpr::Binary(_, _, operands) | IntExpr::OrElse(operands) => {
                operands.0.as_constant().is_some() && operands.1.as_constant().is_some()
            }
            IntExpr::Conditional(parts) => {
                parts.0.as_constant().is_some()
                    && parts.1.as_constant().is_some()
                    && parts.2.as_constant().is_some()
            }
            _ => false,
        };
        match self.eval(&[]) {
            Ok(value) if is_constant => IntExpr::Constant(value),
            _ => self,
        }
    }
}

fn eval_unary(op: UnaryOp, ctype: CType, value: u64) -> u64 {
    match op {
        UnaryOp::Minus => ctype.wrap(value.wrapping_neg()),
        UnaryOp::Complement => ctype.wrap(!value),
        UnaryOp::Not => u64::from(value == 0),
        UnaryOp::Plus | UnaryOp::Deref | UnaryOp::AddressOf => value,
    }
}

/// Computes `left op right`. Both operands are of type `ctype`.
///
/// Where C does not define the result, this returns what the kernel's machine code computes. Signed
/// overflow wraps, since the kernel is built with -fno-strict-overflow. A shift count is taken modulo
/// the width, as on x86 and arm64. Division by zero and `MIN / -1` trap on x86, so they are
/// [`ValueError::Undefined`].
fn eval_binary(op: BinaryOp, ctype: CType, left: u64, right: u64) -> Result<u64, ValueError> {
    let (a, b) = (left.cast_signed(), right.cast_signed());
    let count = u32::try_from(right & u64::from(ctype.bits() - 1)).unwrap_or(0);
    let value = match op {
        BinaryOp::Mul => left.wrapping_mul(right),
        BinaryOp::Div if ctype.signed => divide(ctype, a, b, i64::checked_div)?,
        BinaryOp::Rem if ctype.signed => divide(ctype, a, b, i64::checked_rem)?,
        BinaryOp::Div => left.checked_div(right).ok_or(ValueError::Undefined)?,
        BinaryOp::Rem => left.checked_rem(right).ok_or(ValueError::Undefined)?,
        BinaryOp::Add => left.wrapping_add(right),
        BinaryOp::Sub => left.wrapping_sub(right),
        BinaryOp::Shl => left << count,
        BinaryOp::Shr if ctype.signed => (a >> count).cast_unsigned(),
        BinaryOp::Shr => left >> count,
        BinaryOp::And => left & right,
        BinaryOp::Xor => left ^ right,
        BinaryOp::Or => left | right,
        BinaryOp::Lt => return Ok(u64::from(if ctype.signed { a < b } else { left < right })),
        BinaryOp::Le => return Ok(u64::from(if ctype.signed { a <= b } else { left <= right })),
        BinaryOp::Gt => return Ok(u64::from(if ctype.signed { a > b } else { left > right })),
        BinaryOp::Ge => return Ok(u64::from(if ctype.signed { a >= b } else { left >= right })),
        BinaryOp::Eq => return Ok(u64::from(left == right)),
        BinaryOp::Ne => return Ok(u64::from(left != right)),
        BinaryOp::LogicalAnd => return Ok(u64::from(left != 0 && right != 0)),
        BinaryOp::LogicalOr => return Ok(u64::from(left != 0 || right != 0)),
    };
    Ok(ctype.wrap(value))
}

/// Divides signed numbers. A result that does not fit the type (`MIN / -1`) is undefined, like
/// division by zero.
fn divide(
    ctype: CType,
    a: i64,
    b: i64,
    op: fn(i64, i64) -> Option<i64>,
) -> Result<u64, ValueError> {
    let min = i64::MIN >> (64 - ctype.bits());
    if a == min && b == -1 {
        return Err(ValueError::Undefined);
    }
    op(a, b)
        .map(i64::cast_unsigned)
        .ok_or(ValueError::Undefined)
}
