//! A format string and its arguments, compiled together.

use super::ast::{Ast, Node};
use super::compile::{Compiler, Value, converted};
use super::ctype::CType;
use super::num::Num;
use super::pointer::Pointer;
use super::program::{Argument, Conversion, Piece};
use super::spec::{self, Item, Kind};

/// Compiles `[format, argument, ...]`.
pub(super) fn compile(compiler: &mut Compiler<'_>, list: &[Ast]) -> Result<Vec<Piece>, String> {
    let (format, arguments) = list.split_first().ok_or("has no format string")?;
    let Node::Str(format) = &format.node else {
        return Err("has no format string".to_owned());
    };
    let mut arguments = arguments.iter();
    let mut next = || {
        arguments
            .next()
            .ok_or("has more conversions than arguments")
    };
    let mut pieces = Vec::new();
    for item in spec::items(format)? {
        let conversion = match item {
            Item::Literal(text) => {
                pieces.push(Piece::Literal(text.into()));
                continue;
            }
            Item::Conversion(conversion) => conversion,
        };
        let width = if conversion.width_argument {
            Some(int(compiler, next()?)?)
        } else {
            None
        };
        let precision = if conversion.precision_argument {
            Some(int(compiler, next()?)?)
        } else {
            None
        };
        let extents =
            (width.is_some() || precision.is_some()).then(|| Box::new((width, precision)));
        let argument = argument(compiler, &conversion.kind, next()?)?;
        pieces.push(Piece::Conversion(Conversion {
            style: conversion.style,
            extents,
            argument,
        }));
    }
    Ok(pieces)
}

fn int(compiler: &mut Compiler<'_>, ast: &Ast) -> Result<Num, String> {
    let (num, from) = compiler.number(ast)?;
    Ok(converted(num, from, CType::I32))
}

fn argument(compiler: &mut Compiler<'_>, kind: &Kind, ast: &Ast) -> Result<Argument, String> {
    Ok(match kind {
        Kind::Number(ctype) => {
            let (num, from) = compiler.number(ast)?;
            Argument::Number(converted(num, from, *ctype))
        }
        Kind::Char => Argument::Char(compiler.number(ast)?.0),
        Kind::Text => Argument::Text(compiler.text(ast)?),
        Kind::Pointer(letters) => match Pointer::from_letters(letters)
            .ok_or_else(|| format!("prints with %p{letters}"))?
        {
            Pointer::Object(object) => Argument::Object(object, compiler.memory(ast)?.0),
            Pointer::Symbol => Argument::Symbol(address(compiler, ast)?),
            Pointer::Address => Argument::Address(address(compiler, ast)?),
        },
    })
}

fn address(compiler: &mut Compiler<'_>, ast: &Ast) -> Result<Num, String> {
    match compiler.value(ast)? {
        Value::Num(num, _) => Ok(num),
        _ => Err("prints the address of a part of the record".to_owned()),
    }
}
