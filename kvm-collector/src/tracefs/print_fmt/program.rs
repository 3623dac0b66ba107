//! A compiled print format: literal text and conversions, in the order in which they are printed.

use super::int_expr::IntExpr;
use super::pointer::PointerObject;
use crate::tracefs::number::FormatStyle;
use crate::tracefs::record::ArrayLocation;

/// A compiled format string with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) pieces: Box<[Piece]>,
}

/// A part of a format string.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Literal(Box<[u8]>),
    Conversion(Conversion),
}

/// A printf conversion and its argument.
#[derive(Clone, Debug)]
pub(super) struct Conversion {
    pub(super) style: FormatStyle,
    /// Width and precision where they are arguments (`%*.*d`).
    pub(super) dynamic_extents: Option<Box<(Option<IntExpr>, Option<IntExpr>)>>,
    pub(super) argument: Argument,
}

/// The argument of a conversion.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    /// An integer, already converted to the type of the conversion.
    Number(IntExpr),
    /// `%c`
    Char(IntExpr),
    /// `%s`
    Text(TextExpr),
    /// `%p`
    Address(IntExpr),
    /// `%pS`
    Symbol(IntExpr),
    /// An extension such as `%pM` that prints an object in the record.
    PointedTo(PointerObject, ArrayLocation),
}

/// A string literal or a name.
pub(super) type Bytes = Box<[u8]>;

/// Values or bit masks with their names.
pub(super) type NameTable = Vec<(u64, Bytes)>;

/// An expression that evaluates to text.
#[derive(Clone, Debug)]
pub(super) enum TextExpr {
    Literal(Bytes),
    /// `(condition, then, otherwise)`
    Conditional(Box<(IntExpr, TextExpr, TextExpr)>),
    /// A C string in the record.
    CString(ArrayLocation),
    /// An element of a local array of strings.
    Indexed(Box<[Bytes]>, IntExpr),
    /// `__print_symbolic`
    Symbolic(Symbolic),
    /// `__print_flags`
    Flags(Flags),
    /// `__print_hex`: the first `length` bytes of an array in base 16, with or without spaces.
    HexBytes {
        array: ArrayLocation,
        length: IntExpr,
        spaced: bool,
    },
    /// `__print_array`: `count` elements of `size` bytes each.
    Array {
        array: ArrayLocation,
        count: IntExpr,
        size: IntExpr,
    },
    /// `__get_bitmask` or `__get_cpumask`.
    Bitmask(ArrayLocation),
    /// The text that a statement expression printed.
    Printed(Program),
}

/// `__print_symbolic`: prints the name of a value.
#[derive(Clone, Debug)]
pub(super) struct Symbolic {
    pub(super) value: IntExpr,
    names: Box<[(u64, Bytes)]>,
}

/// `__print_flags`: prints the names of the bits of a value.
#[derive(Clone, Debug)]
pub(super) struct Flags {
    pub(super) value: IntExpr,
    pub(super) delimiter: Bytes,
    pub(super) names: Box<[(u64, Bytes)]>,
}

impl Program {
    /// Returns the argument of the conversion that follows literal text ending in `label`. An empty
    /// label means the conversion at the start of the format.
    pub(super) fn argument_after_label(&self, label: &str) -> Option<&Argument> {
        if label.is_empty() {
            return match self.pieces.first() {
                Some(Piece::Conversion(first)) => Some(&first.argument),
                _ => None,
            };
        }
        self.pieces.windows(2).find_map(|pair| match pair {
            [Piece::Literal(text), Piece::Conversion(next)] if text.ends_with(label.as_bytes()) => {
                Some(&next.argument)
            }
            _ => None,
        })
    }
}

impl Symbolic {
    /// If a value is listed twice, its first name is used, as in the kernel.
    pub(super) fn new(value: IntExpr, mut names: NameTable) -> Symbolic {
        names.sort_by_key(|(value, _)| *value);
        names.dedup_by_key(|(value, _)| *value);
        Symbolic {
            value,
            names: names.into(),
        }
    }

    /// Returns the values that have a name, in ascending order.
    pub(super) fn names(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.names
            .iter()
            .filter(|(_, name)| !name.is_empty())
            .map(|(value, name)| (*value, &**name))
    }

    /// Returns the name of `value`. `None` if the name is empty, because the kernel prints the number
    /// then.
    pub(super) fn name(&self, value: u64) -> Option<&[u8]> {
        let index = self
            .names
            .binary_search_by_key(&value, |(value, _)| *value)
            .ok()?;
        Some(&*self.names[index].1).filter(|name| !name.is_empty())
    }
}
