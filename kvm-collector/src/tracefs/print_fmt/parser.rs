//! Parses tokens into an [`Ast`]: C expressions, by precedence climbing, and GCC's statement
//! expressions.

use super::ast::{Ast, BinaryOp, MAX_DEPTH, Node, Statement, UnaryOp};
use super::lexer::Token;
use crate::tracefs::ctype::{self, TypeName};

/// Parses a print format: a format string and its arguments, separated by commas.
pub(super) fn parse_arguments(tokens: &[Token]) -> Result<Vec<Ast>, String> {
    let mut parser = Parser {
        tokens,
        position: 0,
        depth: 0,
    };
    let list = parser.expression_list(None)?;
    match parser.peek() {
        None => Ok(list),
        Some(token) => Err(format!("unexpected {}", describe(token))),
    }
}

struct Parser<'t> {
    tokens: &'t [Token],
    position: usize,
    depth: u8,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.position)
    }

    fn next_is(&self, punct: &str) -> bool {
        self.punct_at(0) == Some(punct)
    }

    fn punct_at(&self, ahead: usize) -> Option<&'t str> {
        match self.tokens.get(self.position + ahead) {
            Some(Token::Punct(punct)) => Some(punct),
            _ => None,
        }
    }

    fn identifier_at(&self, ahead: usize) -> Option<&'t str> {
        match self.tokens.get(self.position + ahead) {
            Some(Token::Identifier(name)) => Some(name),
            _ => None,
        }
    }

    fn accept(&mut self, punct: &str) -> bool {
        let found = self.next_is(punct);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, punct: &str) -> Result<(), String> {
        if self.accept(punct) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_owned(), describe);
        Err(format!("expected {punct}, found {found}"))
    }

    fn expect_identifier(&mut self) -> Result<String, String> {
        let name = self.identifier_at(0).ok_or("expected a name")?;
        self.position += 1;
        Ok(name.to_owned())
    }

    /// Parses comma-separated expressions up to and including `close`, or up to the end if `close` is
    /// `None`. Accepts a trailing comma.
    fn expression_list(&mut self, close: Option<&str>) -> Result<Vec<Ast>, String> {
        let mut list = Vec::new();
        loop {
            match close {
                Some(close) if self.accept(close) => return Ok(list),
                None if self.peek().is_none() => return Ok(list),
                _ => {}
            }
            list.push(self.expression()?);
            if !self.accept(",") {
                if let Some(close) = close {
                    self.expect(close)?;
                }
                return Ok(list);
            }
        }
    }

    /// Parses an expression without the comma operator.
    ///
    /// Every recursion of the grammar goes through this function or [`Parser::unary`], so both check
    /// the depth.
    fn expression(&mut self) -> Result<Ast, String> {
        self.with_depth(|parser| {
            let condition = parser.binary(0)?;
            if !parser.accept("?") {
                return Ok(condition);
            }
            if parser.accept(":") {
                let otherwise = parser.expression()?;
                return Ast::new(Node::OrElse(Box::new(condition), Box::new(otherwise)));
            }
            let then = parser.expression()?;
            parser.expect(":")?;
            let otherwise = parser.expression()?;
            Ast::new(Node::Conditional(
                Box::new(condition),
                Box::new(then),
                Box::new(otherwise),
            ))
        })
    }

    /// Calls `parse` one nesting level deeper. Fails at [`MAX_DEPTH`].
    fn with_depth<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.depth >= MAX_DEPTH {
            return Err("nested too deeply".to_owned());
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Parses binary operators with a precedence of at least `min_precedence`.
    fn binary(&mut self, min_precedence: u8) -> Result<Ast, String> {
        let mut left = self.unary()?;
        while let Some((op, precedence)) = self.punct_at(0).and_then(binary_operator) {
            if precedence < min_precedence {
                break;
            }
            self.position += 1;
            let right = self.binary(precedence + 1)?;
            left = Ast::new(Node::Binary(op, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Ast, String> {
        self.with_depth(|parser| {
            if let Some(op) = parser.punct_at(0).and_then(unary_operator) {
                parser.position += 1;
                let operand = parser.unary()?;
                return Ast::new(Node::Unary(op, Box::new(operand)));
            }
            if parser.next_is("(") && parser.type_starts_at(1) {
                parser.position += 1;
                let ctype = parser.type_name()?;
                parser.expect(")")?;
                let operand = parser.unary()?;
                return Ast::new(Node::Cast(ctype, Box::new(operand)));
            }
            let operand = parser.primary()?;
            parser.postfix(operand)
        })
    }

    fn postfix(&mut self, mut left: Ast) -> Result<Ast, String> {
        loop {
            left = if self.accept("[") {
                let index = self.expression()?;
                self.expect("]")?;
                Ast::new(Node::Index(Box::new(left), Box::new(index)))?
            } else if self.accept(".") || self.accept("->") {
                Ast::new(Node::Member(Box::new(left), self.expect_identifier()?))?
            } else {
                return Ok(left);
            };
        }
    }

    fn primary(&mut self) -> Result<Ast, String> {
        let token = self.peek().ok_or("unexpected end")?;
        self.position += 1;
        match token {
            Token::Integer(value, ctype) => Ast::new(Node::Integer(*value, *ctype)),
            Token::String(bytes) => {
                let mut bytes = bytes.clone();
                while let Some(Token::String(more)) = self.peek() {
                    bytes.extend_from_slice(more);
                    self.position += 1;
                }
                Ast::new(Node::String(bytes))
            }
            Token::Identifier(name) if name == "sizeof" && self.accept("(") => {
                if !self.type_starts_at(0) {
                    return Err("sizeof of an expression".to_owned());
                }
                let ctype = self.type_name()?;
                self.expect(")")?;
                Ast::new(Node::SizeOf(ctype))
            }
            Token::Identifier(name) if self.accept("(") => {
                Ast::new(Node::Call(name.clone(), self.expression_list(Some(")"))?))
            }
            Token::Identifier(name) => Ast::new(Node::Identifier(name.clone())),
            Token::Punct("(") if self.accept("{") => {
                let block = self.block()?;
                self.expect(")")?;
                Ast::new(Node::Block(block))
            }
            Token::Punct("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Punct("{") => Ast::new(Node::Braces(self.expression_list(Some("}"))?)),
            token => Err(format!("unexpected {}", describe(token))),
        }
    }

    /// Parses statements up to and including the closing brace.
    fn block(&mut self) -> Result<Vec<Statement>, String> {
        let mut statements = Vec::new();
        while !self.accept("}") {
            if self.accept(";") {
                continue;
            }
            statements.push(self.statement()?);
            self.expect(";")?;
        }
        Ok(statements)
    }

    fn statement(&mut self) -> Result<Statement, String> {
        if self.type_starts_at(0) {
            let ctype = self.type_name()?;
            let name = self.expect_identifier()?;
            while self.accept("[") {
                if !self.next_is("]") {
                    self.expression()?;
                }
                self.expect("]")?;
            }
            let value = if self.accept("=") {
                Some(self.expression()?)
            } else {
                None
            };
            return Ok(Statement::Declare { ctype, name, value });
        }
        let left = self.expression()?;
        if self.accept("=") {
            return Ok(Statement::Assign {
                to: left,
                value: self.expression()?,
            });
        }
        Ok(Statement::Expression(left))
    }

    fn type_starts_at(&self, ahead: usize) -> bool {
        self.identifier_at(ahead)
            .is_some_and(|name| ctype::is_type_keyword(name) || ctype::from_typedef(name).is_some())
    }

    fn type_name(&mut self) -> Result<TypeName, String> {
        let mut words = Vec::new();
        let mut tagged_type = None;
        while let Some(word) = self.identifier_at(0) {
            if matches!(word, "struct" | "union" | "enum") {
                self.position += 1;
                tagged_type = Some(format!("{word} {}", self.expect_identifier()?));
            } else if ctype::is_type_keyword(word)
                || (words.is_empty()
                    && tagged_type.is_none()
                    && ctype::from_typedef(word).is_some())
            {
                words.push(word);
                self.position += 1;
            } else {
                break;
            }
        }
        words.retain(|word| !matches!(*word, "const" | "volatile" | "static"));
        let mut pointers = 0;
        loop {
            if self.accept("*") {
                pointers += 1;
            } else if matches!(
                self.identifier_at(0),
                Some("const" | "volatile" | "__user" | "__rcu")
            ) {
                self.position += 1;
            } else {
                break;
            }
        }
        Ok(build_type_name(&words, tagged_type, pointers))
    }
}

/// `tagged_type` is a struct, union or enum with its name. `pointers` is the number of `*`.
fn build_type_name(words: &[&str], tagged_type: Option<String>, pointers: usize) -> TypeName {
    let int_type = if tagged_type.is_some() {
        None
    } else {
        ctype::from_specifiers(words.iter().copied())
    };
    match (pointers, int_type, tagged_type) {
        (0, _, Some(name)) => TypeName::Other(name),
        (0, _, None) if matches!(words, ["bool"] | ["_Bool"]) => TypeName::Bool,
        (0, Some(ctype), None) => TypeName::Int(ctype),
        (0, None, None) => TypeName::Other(words.join(" ")),
        (1, Some(ctype), None) => TypeName::Pointer(Some(ctype)),
        _ => TypeName::Pointer(None),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Identifier(name) => name.clone(),
        Token::Integer(value, _) => value.to_string(),
        Token::String(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Token::Punct(punct) => (*punct).to_owned(),
    }
}

fn unary_operator(punct: &str) -> Option<UnaryOp> {
    Some(match punct {
        "+" => UnaryOp::Plus,
        "-" => UnaryOp::Minus,
        "!" => UnaryOp::Not,
        "~" => UnaryOp::Complement,
        "*" => UnaryOp::Deref,
        "&" => UnaryOp::AddressOf,
        _ => return None,
    })
}

/// Returns a binary operator and its precedence. A higher precedence binds tighter.
fn binary_operator(punct: &str) -> Option<(BinaryOp, u8)> {
    Some(match punct {
        "||" => (BinaryOp::LogicalOr, 0),
        "&&" => (BinaryOp::LogicalAnd, 1),
        "|" => (BinaryOp::Or, 2),
        "^" => (BinaryOp::Xor, 3),
        "&" => (BinaryOp::And, 4),
        "==" => (BinaryOp::Eq, 5),
        "!=" => (BinaryOp::Ne, 5),
        "<" => (BinaryOp::Lt, 6),
        "<=" => (BinaryOp::Le, 6),
        ">" => (BinaryOp::Gt, 6),
        ">=" => (BinaryOp::Ge, 6),
        "<<" => (BinaryOp::Shl, 7),
        ">>" => (BinaryOp::Shr, 7),
        "+" => (BinaryOp::Add, 8),
        "-" => (BinaryOp::Sub, 8),
        "*" => (BinaryOp::Mul, 9),
        "/" => (BinaryOp::Div, 9),
        "%" => (BinaryOp::Rem, 9),
        _ => return None,
    })
}
