//! Compiles a format string together with its arguments.

use super::{Compiler, Value};
use crate::tracefs::ctype::CType;
use crate::tracefs::print_fmt::ast::{Ast, Node};
use crate::tracefs::print_fmt::format_spec::{self, ConversionKind, SpecItem};
use crate::tracefs::print_fmt::int_expr::IntExpr;
use crate::tracefs::print_fmt::pointer::PointerKind;
use crate::tracefs::print_fmt::program::{Argument, Conversion, Piece};

impl Compiler<'_> {
    /// Compiles the arguments of printf: the first is the format string.
    pub(in crate::tracefs::print_fmt) fn compile_format_string(
        &mut self,
        arguments: &[Ast],
    ) -> Result<Vec<Piece>, String> {
        let (format, arguments) = arguments.split_first().ok_or("has no format string")?;
        let Node::String(format) = &format.node else {
            return Err("has no format string".to_owned());
        };
        let mut arguments = arguments.iter();
        let mut next = || {
            arguments
                .next()
                .ok_or("has more conversions than arguments")
        };
        let mut pieces = Vec::new();
        for item in format_spec::parse_spec(format)? {
            let conversion = match item {
                SpecItem::Literal(text) => {
                    pieces.push(Piece::Literal(text.into()));
                    continue;
                }
                SpecItem::Conversion(conversion) => conversion,
            };
            let width = if conversion.has_width_argument {
                Some(self.compile_i32(next()?)?)
            } else {
                None
            };
            let precision = if conversion.has_precision_argument {
                Some(self.compile_i32(next()?)?)
            } else {
                None
            };
            let dynamic_extents =
                (width.is_some() || precision.is_some()).then(|| Box::new((width, precision)));
            let argument = self.compile_argument(&conversion.kind, next()?)?;
            pieces.push(Piece::Conversion(Conversion {
                style: conversion.style,
                dynamic_extents,
                argument,
            }));
        }
        Ok(pieces)
    }

    fn compile_i32(&mut self, ast: &Ast) -> Result<IntExpr, String> {
        let (expr, ctype) = self.compile_int(ast)?;
        Ok(expr.convert(ctype, CType::I32))
    }

    fn compile_argument(&mut self, kind: &ConversionKind, ast: &Ast) -> Result<Argument, String> {
        Ok(match kind {
            ConversionKind::Number(to) => {
                let (expr, from) = self.compile_int(ast)?;
                Argument::Number(expr.convert(from, *to))
            }
            ConversionKind::Char => Argument::Char(self.compile_int(ast)?.0),
            ConversionKind::Text => Argument::Text(self.compile_text(ast)?),
            ConversionKind::Pointer(letters) => match PointerKind::from_letters(letters)
                .ok_or_else(|| format!("uses the unsupported conversion %p{letters}"))?
            {
                PointerKind::Object(object) => {
                    Argument::PointedTo(object, self.compile_array(ast)?.0)
                }
                PointerKind::Symbol => Argument::Symbol(self.compile_address(ast)?),
                PointerKind::Address => Argument::Address(self.compile_address(ast)?),
            },
        })
    }

    fn compile_address(&mut self, ast: &Ast) -> Result<IntExpr, String> {
        match self.compile_value(ast)? {
            Value::Int(expr, _) => Ok(expr),
            _ => Err("prints the address of data in the record".to_owned()),
        }
    }
}
