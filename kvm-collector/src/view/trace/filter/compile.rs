//! Compiles a parsed filter for the events of one format.

use super::{
    error::FilterError,
    parser::{Comparison, Expression},
    predicate::{NumberOp, Predicate},
};
use crate::{
    bounds::{Letters, compile_glob, compile_literal, excerpt},
    tracefs::{Field, FieldKind, Format},
};

/// Why a filter cannot be compiled for an event.
pub(super) enum ResolveError<'f> {
    /// The filter does not concern this event: it has no such field, or the filter names another
    /// event. Contains the event and the field in the filter.
    OtherEvent((Option<&'f str>, &'f str)),
    /// The filter is invalid.
    Error(FilterError),
}

/// Compiles a filter for the events of a format.
pub(super) fn resolve<'f>(
    expression: &Expression<'f>,
    format: &Format,
    filter: &str,
) -> Result<Predicate, ResolveError<'f>> {
    let all = |parts: &[Expression<'f>]| {
        parts
            .iter()
            .map(|it| resolve(it, format, filter))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match expression {
        Expression::And(parts) => Predicate::And(all(parts)?),
        Expression::Or(parts) => Predicate::Or(all(parts)?),
        Expression::Not(inner) => Predicate::Not(Box::new(resolve(inner, format, filter)?)),
        Expression::Comparison(comparison) => {
            let is_named = comparison.event.is_none_or(|event| event == format.name);
            let Some(field) = format.field(comparison.field).filter(|_| is_named) else {
                return Err(ResolveError::OtherEvent((
                    comparison.event,
                    comparison.field,
                )));
            };
            compile(comparison, field).map_err(|problem| {
                ResolveError::Error(FilterError::Type {
                    filter: excerpt(filter).into_owned(),
                    field: format!("{}.{}", format.name, comparison.field),
                    problem,
                })
            })?
        }
    })
}

/// Compiles one comparison with a field.
fn compile(comparison: &Comparison<'_>, field: &Field) -> Result<Predicate, String> {
    let field = field.clone();
    let negate_if = |condition, predicate| match condition {
        true => Predicate::Not(Box::new(predicate)),
        false => predicate,
    };
    match field.kind {
        FieldKind::Integer | FieldKind::Bool | FieldKind::Pointer => {
            let value = number(comparison.value)
                .ok_or("is a number; compare it with one, such as 8 or 0x3f8")?;
            let op = match comparison.op {
                "==" | "!=" => NumberOp::Equal,
                "<" => NumberOp::Less,
                "<=" => NumberOp::LessOrEqual,
                ">" => NumberOp::Greater,
                ">=" => NumberOp::GreaterOrEqual,
                "&" => NumberOp::AnyBit,
                _ => return Err("is a number, but ~ compares text".to_owned()),
            };
            let predicate = Predicate::Number { field, op, value };
            Ok(negate_if(comparison.op == "!=", predicate))
        }
        FieldKind::Chars
        | FieldKind::DataLoc { elem_size: 1 }
        | FieldKind::RelLoc { elem_size: 1 } => {
            let compile = match comparison.op {
                "==" | "!=" => compile_literal,
                "~" => compile_glob,
                _ => return Err("is text; it can be compared with ==, != and ~".to_owned()),
            };
            let glob = compile(comparison.value, Letters::CaseSensitive)
                .map_err(|error| format!("is compared with an invalid pattern: {error}"))?;
            let predicate = Predicate::Text { field, glob };
            Ok(negate_if(comparison.op == "!=", predicate))
        }
        _ => Err("is an array and cannot be compared".to_owned()),
    }
}

/// Parses a number in C syntax: 10, 0x10 or -1.
fn number(text: &str) -> Option<u64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let value = match hex {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if is_negative {
        value.wrapping_neg()
    } else {
        value
    })
}
