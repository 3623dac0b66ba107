//! From tokens to an [`Ast`]: C's expression grammar by precedence climbing, plus GCC's statement expressions.

use super::ast::{Ast, Binary, MAX_DEPTH, Node, Statement, Unary};
use super::ctype::{self, TypeName};
use super::lex::Token;

/// Parses a whole print format: a format string and its arguments, separated by commas.
pub(super) fn arguments(tokens: &[Token]) -> Result<Vec<Ast>, String> {
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
    };
    let list = parser.list(None)?;
    match parser.peek() {
        None => Ok(list),
        Some(token) => Err(format!("unexpected {}", describe(token))),
    }
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: u8,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    fn next_is(&self, punct: &str) -> bool {
        self.punct_at(0) == Some(punct)
    }

    fn punct_at(&self, ahead: usize) -> Option<&'t str> {
        match self.tokens.get(self.at + ahead) {
            Some(Token::Punct(punct)) => Some(punct),
            _ => None,
        }
    }

    fn name_at(&self, ahead: usize) -> Option<&'t str> {
        match self.tokens.get(self.at + ahead) {
            Some(Token::Name(name)) => Some(name),
            _ => None,
        }
    }

    fn accept(&mut self, punct: &str) -> bool {
        let found = self.next_is(punct);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, punct: &str) -> Result<(), String> {
        if self.accept(punct) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_owned(), describe);
        Err(format!("expected {punct}, found {found}"))
    }

    fn name(&mut self) -> Result<String, String> {
        let name = self.name_at(0).ok_or("expected a name")?;
        self.at += 1;
        Ok(name.to_owned())
    }

    /// Comma-separated expressions up to and including `close`; up to the end without it. A trailing comma is allowed.
    fn list(&mut self, close: Option<&str>) -> Result<Vec<Ast>, String> {
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

    /// An expression without the comma operator. Every recursion of the grammar passes here or through [`Parser::unary`].
    fn expression(&mut self) -> Result<Ast, String> {
        self.nested(|parser| {
            let condition = parser.binary(0)?;
            if !parser.accept("?") {
                return Ok(condition);
            }
            let yes = parser.expression()?;
            parser.expect(":")?;
            let no = parser.expression()?;
            Ast::new(Node::Cond(Box::new(condition), Box::new(yes), Box::new(no)))
        })
    }

    fn nested<T>(
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

    fn binary(&mut self, weakest: u8) -> Result<Ast, String> {
        let mut left = self.unary()?;
        while let Some((op, strength)) = self.punct_at(0).and_then(binary_operator) {
            if strength < weakest {
                break;
            }
            self.at += 1;
            let right = self.binary(strength + 1)?;
            left = Ast::new(Node::Binary(op, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Ast, String> {
        self.nested(|parser| {
            if let Some(op) = parser.punct_at(0).and_then(unary_operator) {
                parser.at += 1;
                let operand = parser.unary()?;
                return Ast::new(Node::Unary(op, Box::new(operand)));
            }
            if parser.next_is("(") && parser.type_starts_at(1) {
                parser.at += 1;
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
                Ast::new(Node::Member(Box::new(left), self.name()?))?
            } else {
                return Ok(left);
            };
        }
    }

    fn primary(&mut self) -> Result<Ast, String> {
        let token = self.peek().ok_or("unexpected end")?;
        self.at += 1;
        match token {
            Token::Int(value, ctype) => Ast::new(Node::Int(*value, *ctype)),
            Token::Str(bytes) => {
                let mut bytes = bytes.clone();
                while let Some(Token::Str(more)) = self.peek() {
                    bytes.extend_from_slice(more);
                    self.at += 1;
                }
                Ast::new(Node::Str(bytes))
            }
            Token::Name(name) if name == "sizeof" && self.accept("(") => {
                if !self.type_starts_at(0) {
                    return Err("sizeof of an expression".to_owned());
                }
                let ctype = self.type_name()?;
                self.expect(")")?;
                Ast::new(Node::SizeOf(ctype))
            }
            Token::Name(name) if self.accept("(") => {
                Ast::new(Node::Call(name.clone(), self.list(Some(")"))?))
            }
            Token::Name(name) => Ast::new(Node::Name(name.clone())),
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
            Token::Punct("{") => Ast::new(Node::List(self.list(Some("}"))?)),
            token => Err(format!("unexpected {}", describe(token))),
        }
    }

    /// Statements up to and including the closing brace.
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
            let name = self.name()?;
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
        self.name_at(ahead)
            .is_some_and(|name| ctype::is_keyword(name) || ctype::typedef(name).is_some())
    }

    fn type_name(&mut self) -> Result<TypeName, String> {
        let mut words = Vec::new();
        let mut other = None;
        while let Some(word) = self.name_at(0) {
            if matches!(word, "struct" | "union" | "enum") {
                self.at += 1;
                other = Some(format!("{word} {}", self.name()?));
            } else if ctype::is_keyword(word)
                || (words.is_empty() && other.is_none() && ctype::typedef(word).is_some())
            {
                words.push(word);
                self.at += 1;
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
                self.name_at(0),
                Some("const" | "volatile" | "__user" | "__rcu")
            ) {
                self.at += 1;
            } else {
                break;
            }
        }
        Ok(spelled(&words, other, pointers))
    }
}

fn spelled(words: &[&str], other: Option<String>, pointers: usize) -> TypeName {
    let target = if other.is_some() {
        None
    } else {
        ctype::from_words(words.iter().copied())
    };
    match (pointers, target, other) {
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
        Token::Name(name) => name.clone(),
        Token::Int(value, _) => value.to_string(),
        Token::Str(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Token::Punct(punct) => (*punct).to_owned(),
    }
}

fn unary_operator(punct: &str) -> Option<Unary> {
    Some(match punct {
        "+" => Unary::Plus,
        "-" => Unary::Minus,
        "!" => Unary::Not,
        "~" => Unary::Complement,
        "*" => Unary::Deref,
        "&" => Unary::AddressOf,
        _ => return None,
    })
}

/// The operator and how strongly it binds.
fn binary_operator(punct: &str) -> Option<(Binary, u8)> {
    Some(match punct {
        "||" => (Binary::LogicalOr, 0),
        "&&" => (Binary::LogicalAnd, 1),
        "|" => (Binary::Or, 2),
        "^" => (Binary::Xor, 3),
        "&" => (Binary::And, 4),
        "==" => (Binary::Eq, 5),
        "!=" => (Binary::Ne, 5),
        "<" => (Binary::Lt, 6),
        "<=" => (Binary::Le, 6),
        ">" => (Binary::Gt, 6),
        ">=" => (Binary::Ge, 6),
        "<<" => (Binary::Shl, 7),
        ">>" => (Binary::Shr, 7),
        "+" => (Binary::Add, 8),
        "-" => (Binary::Sub, 8),
        "*" => (Binary::Mul, 9),
        "/" => (Binary::Div, 9),
        "%" => (Binary::Rem, 9),
        _ => return None,
    })
}
