//! Parses the text of a filter.

use super::error::FilterError;
use crate::bounds::excerpt;

/// Maximum depth of nesting. The parser is recursive, so the depth must be bounded.
const MAX_DEPTH: usize = 64;

/// Parses a filter.
pub(super) fn parse(filter: &str) -> Result<Expression<'_>, FilterError> {
    Parser {
        filter,
        rest: filter.trim_start(),
    }
    .parse()
}

/// A parsed filter. It does not depend on any event yet.
pub(super) enum Expression<'f> {
    /// All of these.
    And(Vec<Expression<'f>>),
    /// Any of these.
    Or(Vec<Expression<'f>>),
    Not(Box<Expression<'f>>),
    Comparison(Comparison<'f>),
}

/// One comparison, such as `kvm_pio.port == 0x3f8`.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'f> {
    /// Name of the event without its system, if the filter names it.
    pub(super) event: Option<&'f str>,
    /// Name of the field.
    pub(super) field: &'f str,
    /// The operator as text.
    pub(super) op: &'f str,
    /// The value as text, without quotes.
    pub(super) value: &'f str,
}

/// Returns the only part, or combines several.
fn single_or<'f>(
    mut parts: Vec<Expression<'f>>,
    combine: impl FnOnce(Vec<Expression<'f>>) -> Expression<'f>,
) -> Expression<'f> {
    match parts.len() {
        1 => parts.remove(0),
        _ => combine(parts),
    }
}

/// A recursive-descent parser.
struct Parser<'f> {
    filter: &'f str,
    /// The text that is not parsed yet.
    rest: &'f str,
}

impl<'f> Parser<'f> {
    fn parse(mut self) -> Result<Expression<'f>, FilterError> {
        let parsed = self.or(0)?;
        if self.rest.is_empty() {
            Ok(parsed)
        } else {
            Err(self.expected("&&, || or the end"))
        }
    }

    fn or(&mut self, depth: usize) -> Result<Expression<'f>, FilterError> {
        let mut parts = vec![self.and(depth)?];
        while self.consume("||") {
            parts.push(self.and(depth)?);
        }
        Ok(single_or(parts, Expression::Or))
    }

    fn and(&mut self, depth: usize) -> Result<Expression<'f>, FilterError> {
        let mut parts = vec![self.unary(depth)?];
        while self.consume("&&") {
            parts.push(self.unary(depth)?);
        }
        Ok(single_or(parts, Expression::And))
    }

    fn unary(&mut self, depth: usize) -> Result<Expression<'f>, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.expected("at most 64 levels of nesting"));
        }
        if self.consume("!") {
            return Ok(Expression::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.consume("(") {
            let inner = self.or(depth + 1)?;
            return if self.consume(")") {
                Ok(inner)
            } else {
                Err(self.expected("`)`"))
            };
        }
        self.comparison().map(Expression::Comparison)
    }

    fn comparison(&mut self) -> Result<Comparison<'f>, FilterError> {
        let name = self.word(|c| c.is_alphanumeric() || "_.:".contains(c));
        if name.is_empty() {
            return Err(self.expected("a field"));
        }
        // `kvm:kvm_pio.port`, `kvm_pio.port` or `port`. The system is ignored: names of events are unique.
        let (event, field) = match name.rsplit_once('.') {
            Some((event, field)) => (event.rsplit(':').next(), field),
            None => (None, name),
        };
        let op = ["==", "!=", "<=", ">=", "<", ">", "&", "~"]
            .into_iter()
            .find(|op| self.rest.starts_with(op) && !(*op == "&" && self.rest.starts_with("&&")));
        let Some(op) = op else {
            return Err(self.expected("one of == != < <= > >= & ~"));
        };
        self.consume(op);
        let value = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = &self.rest[1..];
                let Some(end) = inner.find(quote) else {
                    return Err(self.expected("a closing quote"));
                };
                self.rest = inner[end + 1..].trim_start();
                &inner[..end]
            }
            _ => self.word(|c| !c.is_whitespace() && !"()&|!".contains(c)),
        };
        if value.is_empty() {
            return Err(self.expected("a value"));
        }
        Ok(Comparison {
            event,
            field,
            op,
            value,
        })
    }

    /// Consumes the longest word of these characters, which may be empty.
    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'f str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    /// Consumes a token, if it is next.
    fn consume(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        FilterError::Syntax {
            filter: excerpt(self.filter).into_owned(),
            expected,
            found: if self.rest.is_empty() {
                "the end".into()
            } else {
                self.rest.chars().take(20).collect()
            },
        }
    }
}
