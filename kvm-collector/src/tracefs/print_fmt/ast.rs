//! What a print format says, before names are looked up and types are known.

use super::ctype::{CType, TypeName};

/// How deep an expression may nest. The kernel's macros stay under 20; a limit keeps every later walk off the end of the stack.
pub(super) const MAX_DEPTH: u8 = 100;

/// An expression and how deep it nests.
#[derive(Debug, Clone)]
pub(super) struct Ast {
    pub(super) node: Node,
    depth: u8,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Int(u64, CType),
    Str(Vec<u8>),
    Name(String),
    Unary(Unary, Box<Ast>),
    Binary(Binary, Box<Ast>, Box<Ast>),
    Cond(Box<Ast>, Box<Ast>, Box<Ast>),
    Cast(TypeName, Box<Ast>),
    SizeOf(TypeName),
    Call(String, Vec<Ast>),
    Index(Box<Ast>, Box<Ast>),
    /// `a.b` and `a->b` alike: what `a` is decides.
    Member(Box<Ast>, String),
    /// `{ a, b }`
    List(Vec<Ast>),
    /// `({ ...; ...; value; })`
    Block(Vec<Statement>),
}

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
pub(super) enum Unary {
    Plus,
    Minus,
    Not,
    Complement,
    Deref,
    AddressOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
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
    /// Wraps `node`, unless that nests deeper than [`MAX_DEPTH`].
    pub(super) fn new(node: Node) -> Result<Ast, String> {
        let depth = node.depth_of_children() + 1;
        if depth > MAX_DEPTH {
            Err("nested too deeply".to_owned())
        } else {
            Ok(Ast { node, depth })
        }
    }
}

impl Node {
    fn depth_of_children(&self) -> u8 {
        let deepest = |list: &[Ast]| list.iter().map(|ast| ast.depth).max().unwrap_or(0);
        match self {
            Node::Int(..) | Node::Str(_) | Node::Name(_) | Node::SizeOf(_) => 0,
            Node::Unary(_, a) | Node::Cast(_, a) | Node::Member(a, _) => a.depth,
            Node::Binary(_, a, b) | Node::Index(a, b) => a.depth.max(b.depth),
            Node::Cond(a, b, c) => a.depth.max(b.depth).max(c.depth),
            Node::Call(_, list) | Node::List(list) => deepest(list),
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
