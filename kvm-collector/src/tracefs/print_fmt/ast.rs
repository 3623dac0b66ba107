//! The syntax tree of a print format. Names are not resolved and types are not known yet.

use crate::tracefs::ctype::{CType, TypeName};

/// The maximum nesting depth of an expression. It bounds the stack that recursive functions need. The
/// kernel's macros nest less than 20 levels.
pub(super) const MAX_DEPTH: u8 = 100;

/// An expression and its nesting depth.
#[derive(Debug, Clone)]
pub(super) struct Ast {
    pub(super) node: Node,
    depth: u8,
}

/// The kind of an expression, with its operands.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Integer(u64, CType),
    String(Vec<u8>),
    Identifier(String),
    Unary(UnaryOp, Box<Ast>),
    Binary(BinaryOp, Box<Ast>, Box<Ast>),
    /// `condition ? then : otherwise`
    Conditional(Box<Ast>, Box<Ast>, Box<Ast>),
    /// GNU's `value ?: otherwise`: the value if it is not 0.
    OrElse(Box<Ast>, Box<Ast>),
    Cast(TypeName, Box<Ast>),
    SizeOf(TypeName),
    Call(String, Vec<Ast>),
    Index(Box<Ast>, Box<Ast>),
    /// `a.b` or `a->b`.
    Member(Box<Ast>, String),
    /// `{ a, b }`
    Braces(Vec<Ast>),
    /// GCC's statement expression: `({ ...; ...; value; })`
    Block(Vec<Statement>),
}

/// A statement of a GCC statement expression.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    Declare {
        ctype: TypeName,
        name: String,
        value: Option<Ast>,
    },
    Assign {
        to: Ast,
        value: Ast,
    },
    Expression(Ast),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnaryOp {
    Plus,
    Minus,
    Not,
    Complement,
    Deref,
    AddressOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryOp {
    Mul,
    Div,
    Rem,
    Add,
    Sub,
    Shl,
    Shr,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    And,
    Xor,
    Or,
    LogicalAnd,
    LogicalOr,
}

impl Ast {
    /// Wraps `node` and computes its depth. Fails if the depth exceeds [`MAX_DEPTH`].
    pub(super) fn new(node: Node) -> Result<Ast, String> {
        let depth = node.max_child_depth() + 1;
        if depth > MAX_DEPTH {
            Err("nested too deeply".to_owned())
        } else {
            Ok(Ast { node, depth })
        }
    }
}

impl Node {
    fn max_child_depth(&self) -> u8 {
        let max_depth = |list: &[Ast]| list.iter().map(|ast| ast.depth).max().unwrap_or(0);
        match self {
            Node::Integer(..) | Node::String(_) | Node::Identifier(_) | Node::SizeOf(_) => 0,
            Node::Unary(_, a) | Node::Cast(_, a) | Node::Member(a, _) => a.depth,
            Node::Binary(_, a, b) | Node::Index(a, b) | Node::OrElse(a, b) => a.depth.max(b.depth),
            Node::Conditional(a, b, c) => a.depth.max(b.depth).max(c.depth),
            Node::Call(_, list) | Node::Braces(list) => max_depth(list),
            Node::Block(statements) => statements.iter().map(Statement::depth).max().unwrap_or(0),
        }
    }
}

impl Statement {
    fn depth(&self) -> u8 {
        match self {
            Statement::Declare { value, .. } => value.as_ref().map_or(0, |value| value.depth),
            Statement::Assign { to, value } => to.depth.max(value.depth),
            Statement::Expression(ast) => ast.depth,
        }
    }
}
