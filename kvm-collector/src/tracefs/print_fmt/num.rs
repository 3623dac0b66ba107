//! Integer expressions with every name resolved, ready to be evaluated on a record.

use super::ast::{Binary, Unary};
use super::ctype::CType;
use super::memory::Memory;

/// Why a value could not be had. Printed in its place, so that no invented number appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The record ends before the value does.
    Truncated,
    /// C gives the operation no value: division by zero, `MIN / -1`, an index outside its table.
    Undefined,
}

impl Fault {
    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            Fault::Truncated => b"<truncated>",
            Fault::Undefined => b"<undefined>",
        }
    }
}

/// An integer expression. Values are 64 bits wide, extended from their C type as its sign says (see [`CType::wrap`]).
#[derive(Clone, Debug)]
pub(super) enum Num {
    Const(u64),
    Load {
        offset: usize,
        ctype: CType,
    },
    Element {
        memory: Memory,
        ctype: CType,
        index: Box<Num>,
    },
    /// How many bytes a dynamic array has.
    Length(Memory),
    /// A bit field of an unsigned word.
    Bits {
        word: Box<Num>,
        shift: u8,
        width: u8,
    },
    Convert(CType, Box<Num>),
    Unary(Unary, CType, Box<Num>),
    /// The type is the one both operands were converted to.
    Binary(Binary, CType, Box<(Num, Num)>),
    Cond(Box<(Num, Num, Num)>),
}

impl Num {
    /// Where the one field lies that this is made of, if it is made of one field and constants.
    pub(super) fn only_field(&self) -> Option<usize> {
        match self {
            Num::Load { offset, .. } => Some(*offset),
            Num::Convert(_, value) | Num::Unary(_, _, value) => value.only_field(),
            Num::Binary(_, _, sides) => match &**sides {
                (value, Num::Const(_)) | (Num::Const(_), value) => value.only_field(),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn eval(&self, record: &[u8]) -> Result<u64, Fault> {
        match self {
            Num::Const(value) => Ok(*value),
            Num::Load { offset, ctype } => load(record, *offset, *ctype),
            Num::Element {
                memory,
                ctype,
                index,
            } => {
                let bytes = memory.bytes(record)?;
                let at = usize::try_from(index.eval(record)?)
                    .ok()
                    .and_then(|index| index.checked_mul(usize::from(ctype.size)));
                let at = at.filter(|at| *at < bytes.len()).ok_or(Fault::Undefined)?;
                load(bytes, at, *ctype)
            }
            Num::Length(memory) => Ok(memory.bytes(record)?.len() as u64),
            Num::Bits { word, shift, width } => {
                Ok(word.eval(record)? >> shift & ((1 << width) - 1))
            }
            Num::Convert(ctype, value) => Ok(ctype.wrap(value.eval(record)?)),
            Num::Unary(op, ctype, value) => Ok(unary(*op, *ctype, value.eval(record)?)),
            Num::Binary(op, ctype, sides) => {
                let left = sides.0.eval(record)?;
                match (op, left != 0) {
                    (Binary::LogicalAnd, false) => Ok(0),
                    (Binary::LogicalOr, true) => Ok(1),
                    _ => binary(*op, *ctype, left, sides.1.eval(record)?),
                }
            }
            Num::Cond(parts) => if parts.0.eval(record)? != 0 {
                &parts.1
            } else {
                &parts.2
            }
            .eval(record),
        }
    }

    /// The value, if it depends on no record.
    pub(super) fn constant(&self) -> Option<u64> {
        if let Num::Const(value) = self {
            Some(*value)
        } else {
            None
        }
    }
}

/// Reads an integer of `ctype` at `offset`, in the byte order of this machine.
#[inline]
pub(super) fn load(bytes: &[u8], offset: usize, ctype: CType) -> Result<u64, Fault> {
    let rest = bytes.get(offset..).ok_or(Fault::Truncated)?;
    let raw = match ctype.size {
        1 => rest.first().map(|byte| u64::from(*byte)),
        2 => rest
            .first_chunk()
            .map(|raw| u64::from(u16::from_ne_bytes(*raw))),
        4 => rest
            .first_chunk()
            .map(|raw| u64::from(u32::from_ne_bytes(*raw))),
        _ => rest.first_chunk().map(|raw| u64::from_ne_bytes(*raw)),
    };
    raw.map(|raw| ctype.wrap(raw)).ok_or(Fault::Truncated)
}

pub(super) fn unary(op: Unary, ctype: CType, value: u64) -> u64 {
    match op {
        Unary::Minus => ctype.wrap(value.wrapping_neg()),
        Unary::Complement => ctype.wrap(!value),
        Unary::Not => u64::from(value == 0),
        Unary::Plus | Unary::Deref | Unary::AddressOf => value,
    }
}

/// `left op right`, both already of type `ctype`.
///
/// Where C leaves the result undefined the kernel still prints something; this gives what its machine code gives:
/// signed overflow wraps (the kernel is built so), a shift count counts modulo the width (x86 and arm64 alike).
/// Division by zero and `MIN / -1` trap there, so nothing can be right: [`Fault::Undefined`].
pub(super) fn binary(op: Binary, ctype: CType, left: u64, right: u64) -> Result<u64, Fault> {
    let (a, b) = (left.cast_signed(), right.cast_signed());
    let count = u32::try_from(right & u64::from(ctype.bits() - 1)).unwrap_or(0);
    let value = match op {
        Binary::Mul => left.wrapping_mul(right),
        Binary::Div if ctype.signed => divide(ctype, a, b, i64::checked_div)?,
        Binary::Rem if ctype.signed => divide(ctype, a, b, i64::checked_rem)?,
        Binary::Div => left.checked_div(right).ok_or(Fault::Undefined)?,
        Binary::Rem => left.checked_rem(right).ok_or(Fault::Undefined)?,
        Binary::Add => left.wrapping_add(right),
        Binary::Sub => left.wrapping_sub(right),
        Binary::Shl => left << count,
        Binary::Shr if ctype.signed => (a >> count).cast_unsigned(),
        Binary::Shr => left >> count,
        Binary::And => left & right,
        Binary::Xor => left ^ right,
        Binary::Or => left | right,
        Binary::Lt => return Ok(u64::from(if ctype.signed { a < b } else { left < right })),
        Binary::Le => return Ok(u64::from(if ctype.signed { a <= b } else { left <= right })),
        Binary::Gt => return Ok(u64::from(if ctype.signed { a > b } else { left > right })),
        Binary::Ge => return Ok(u64::from(if ctype.signed { a >= b } else { left >= right })),
        Binary::Eq => return Ok(u64::from(left == right)),
        Binary::Ne => return Ok(u64::from(left != right)),
        Binary::LogicalAnd => return Ok(u64::from(left != 0 && right != 0)),
        Binary::LogicalOr => return Ok(u64::from(left != 0 || right != 0)),
    };
    Ok(ctype.wrap(value))
}

/// Signed division in 64 bits; a quotient that does not fit the type (`INT_MIN / -1`) is as undefined as one by zero.
fn divide(ctype: CType, a: i64, b: i64, op: fn(i64, i64) -> Option<i64>) -> Result<u64, Fault> {
    let smallest = i64::MIN >> (64 - ctype.bits());
    if a == smallest && b == -1 {
        return Err(Fault::Undefined);
    }
    op(a, b).map(i64::cast_unsigned).ok_or(Fault::Undefined)
}
