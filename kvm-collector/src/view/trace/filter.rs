//! Filters on fields, with ftrace's operators: `kvm_pio.port == 0x3f8 && kvm_pio.rw == 1`.
//!
//! A filter concerns the events that have all fields it names (and, where it names an event before a
//! field, only that event); other events pass. As in ftrace (Documentation/trace/events.rst, "Event
//! filtering"): `== != < <= > >= &` on numbers, `== != ~` on text, `~` with a glob, and `&& || ! ( )`.

use globset::{Glob, GlobMatcher};

use crate::tracefs::{Field, FieldKind, Format};

/// Filters deeper than this are no filters that a person wrote.
const MAX_DEPTH: usize = 64;

/// Why a filter cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterError {
    /// It is not written as a filter is.
    #[error("filter `{filter}`: expected {expected} at `{found}`")]
    Syntax {
        /// The whole filter.
        filter: String,
        /// What should have been there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// It names what no selected event has.
    #[error("filter `{filter}`: no selected event has the field {field}{known}")]
    NoField {
        /// The whole filter.
        filter: String,
        /// The field, with its event if it was named.
        field: String,
        /// `; kvm:kvm_pio has ...`, or nothing.
        known: String,
    },
    /// The operator and the field's type, or the value, do not go together.
    #[error("filter `{filter}`: {field} {problem}")]
    Type {
        /// The whole filter.
        filter: String,
        /// The field.
        field: String,
        /// What does not go.
        problem: &'static str,
    },
}

/// Filters on the fields of some events.
#[derive(Debug, Default)]
pub struct Filters {
    /// Per event, in the order of the formats: all have to hold.
    events: Vec<Vec<Node>>,
}

#[derive(Debug)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Number {
        field: Field,
        op: NumberOp,
        value: u64,
    },
    Text {
        field: Field,
        glob: GlobMatcher,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberOp {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
}

impl Filters {
    /// Compiles filters for some events.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn new(filters: &[String], formats: &[Format]) -> Result<Self, FilterError> {
        let mut events: Vec<Vec<Node>> = formats.iter().map(|_| Vec::new()).collect();
        for filter in filters {
            let parsed = Parser {
                filter,
                rest: filter.trim_start(),
            }
            .whole()?;
            let mut missing = None;
            let mut concerns_any = false;
            for (format, nodes) in formats.iter().zip(&mut events) {
                match resolve(&parsed, format, filter) {
                    Ok(node) => {
                        concerns_any = true;
                        nodes.push(node);
                    }
                    Err(Unresolved::OtherEvent(field)) => missing = Some(field),
                    Err(Unresolved::Error(error)) => return Err(error),
                }
            }
            if let (false, Some((event, field))) = (concerns_any, missing) {
                return Err(no_field(filter, event, field, formats));
            }
        }
        Ok(Self { events })
    }

    /// Does an event pass? `slot` is its index among the formats; a record too short for a field does
    /// not pass.
    #[must_use]
    pub fn pass(&self, slot: usize, record: &[u8]) -> bool {
        self.events
            .get(slot)
            .is_none_or(|nodes| nodes.iter().all(|node| node.holds(record)))
    }
}

impl Node {
    fn holds(&self, record: &[u8]) -> bool {
        match self {
            Self::And(a, b) => a.holds(record) && b.holds(record),
            Self::Or(a, b) => a.holds(record) || b.holds(record),
            Self::Not(node) => !node.holds(record),
            Self::Number { field, op, value } => field
                .read_u64(record)
                .is_some_and(|found| op.holds(found, *value, field.signed)),
            Self::Text { field, glob } => text(field, record).is_some_and(|it| glob.is_match(it)),
        }
    }
}

impl NumberOp {
    fn holds(self, found: u64, value: u64, signed: bool) -> bool {
        let order = if signed {
            found.cast_signed().cmp(&value.cast_signed())
        } else {
            found.cmp(&value)
        };
        match self {
            Self::Equal => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::And => found & value != 0,
        }
    }
}

fn text<'r>(field: &Field, record: &'r [u8]) -> Option<&'r str> {
    let bytes = field.bytes(record)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(text).ok()
}

/// What was typed, before it is known which event it is for.
enum Parsed<'f> {
    And(Box<Parsed<'f>>, Box<Parsed<'f>>),
    Or(Box<Parsed<'f>>, Box<Parsed<'f>>),
    Not(Box<Parsed<'f>>),
    Term(Term<'f>),
}

#[derive(Clone, Copy)]
struct Term<'f> {
    event: Option<&'f str>,
    field: &'f str,
    op: &'f str,
    value: &'f str,
}

struct Parser<'f> {
    filter: &'f str,
    rest: &'f str,
}

impl<'f> Parser<'f> {
    fn whole(mut self) -> Result<Parsed<'f>, FilterError> {
        let parsed = self.or(0)?;
        if self.rest.is_empty() {
            Ok(parsed)
        } else {
            Err(self.expected("&&, || or the end"))
        }
    }

    fn or(&mut self, depth: usize) -> Result<Parsed<'f>, FilterError> {
        let mut left = self.and(depth)?;
        while self.takes("||") {
            left = Parsed::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Parsed<'f>, FilterError> {
        let mut left = self.unary(depth)?;
        while self.takes("&&") {
            left = Parsed::And(Box::new(left), Box::new(self.unary(depth)?));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Parsed<'f>, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.expected("fewer parentheses"));
        }
        if self.takes("!") {
            return Ok(Parsed::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.takes("(") {
            let inner = self.or(depth + 1)?;
            return if self.takes(")") {
                Ok(inner)
            } else {
                Err(self.expected("`)`"))
            };
        }
        self.term().map(Parsed::Term)
    }

    fn term(&mut self) -> Result<Term<'f>, FilterError> {
        let name = self.word(|c| c.is_alphanumeric() || "_.:".contains(c));
        if name.is_empty() {
            return Err(self.expected("a field"));
        }
        // `kvm:kvm_pio.port`, `kvm_pio.port` or `port`; an event's name is unique without its system.
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
        self.takes(op);
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
        Ok(Term {
            event,
            field,
            op,
            value,
        })
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'f str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn takes(&mut self, token: &str) -> bool {
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
            filter: self.filter.to_owned(),
            expected,
            found: if self.rest.is_empty() {
                "the end".into()
            } else {
                self.rest.chars().take(20).collect()
            },
        }
    }
}

enum Unresolved<'f> {
    /// The event has no such field, or is not the one named.
    OtherEvent((Option<&'f str>, &'f str)),
    Error(FilterError),
}

fn resolve<'f>(parsed: &Parsed<'f>, format: &Format, filter: &str) -> Result<Node, Unresolved<'f>> {
    let both = |a, b| {
        Ok((
            Box::new(resolve(a, format, filter)?),
            Box::new(resolve(b, format, filter)?),
        ))
    };
    Ok(match parsed {
        Parsed::And(a, b) => both(a, b).map(|(a, b)| Node::And(a, b))?,
        Parsed::Or(a, b) => both(a, b).map(|(a, b)| Node::Or(a, b))?,
        Parsed::Not(node) => Node::Not(Box::new(resolve(node, format, filter)?)),
        Parsed::Term(term) => {
            let named = term.event.is_none_or(|event| event == format.name);
            let Some(field) = format.field(term.field).filter(|_| named) else {
                return Err(Unresolved::OtherEvent((term.event, term.field)));
            };
            compile(term, field).map_err(|problem| {
                Unresolved::Error(FilterError::Type {
                    filter: filter.to_owned(),
                    field: format!("{}.{}", format.name, term.field),
                    problem,
                })
            })?
        }
    })
}

fn compile(term: &Term<'_>, field: &Field) -> Result<Node, &'static str> {
    let field = field.clone();
    let negated = |node, not| if not { Node::Not(Box::new(node)) } else { node };
    match field.kind {
        FieldKind::Integer | FieldKind::Bool | FieldKind::Pointer => {
            let value = number(term.value).ok_or("is a number: give one, such as 8 or 0x3f8")?;
            let op = match term.op {
                "==" | "!=" => NumberOp::Equal,
                "<" => NumberOp::Less,
                "<=" => NumberOp::LessOrEqual,
                ">" => NumberOp::Greater,
                ">=" => NumberOp::GreaterOrEqual,
                "&" => NumberOp::And,
                _ => return Err("is a number: ~ is for text"),
            };
            Ok(negated(Node::Number { field, op, value }, term.op == "!="))
        }
        FieldKind::Chars
        | FieldKind::DataLoc { elem_size: 1 }
        | FieldKind::RelLoc { elem_size: 1 } => {
            let pattern = match term.op {
                "==" | "!=" => globset::escape(term.value),
                "~" => term.value.to_owned(),
                _ => return Err("is text: it can be compared with ==, != and ~"),
            };
            let glob = Glob::new(&pattern).map_err(|_| "is compared with what is no pattern")?;
            let node = Node::Text {
                field,
                glob: glob.compile_matcher(),
            };
            Ok(negated(node, term.op == "!="))
        }
        _ => Err("is an array: it cannot be compared"),
    }
}

/// A number as C writes it: 10, 0x10, -1.
fn number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
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
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

fn no_field(filter: &str, event: Option<&str>, field: &str, formats: &[Format]) -> FilterError {
    let known = formats
        .iter()
        .find(|format| event == Some(&format.name))
        .map(|format| {
            let names: Vec<_> = format
                .fields
                .iter()
                .map(|field| field.name.as_str())
                .collect();
            format!(
                "; {}:{} has {}",
                format.system,
                format.name,
                names.join(", ")
            )
        });
    FilterError::NoField {
        filter: filter.to_owned(),
        field: match event {
            Some(event) => format!("{event}.{field}"),
            None => field.to_owned(),
        },
        known: known.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIO: &str = "name: kvm_pio\nID: 1\nformat:\n\
        \tfield:unsigned int rw;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:int port;\toffset:12;\tsize:4;\tsigned:1;\n\
        \tfield:char who[8];\toffset:16;\tsize:8;\tsigned:0;\n\n\
        print fmt: \"%u\", REC->rw\n";

    fn formats() -> Vec<Format> {
        let other = PIO.replace("kvm_pio", "kvm_msr").replace("port", "ecx");
        vec![
            Format::parse("kvm", PIO).unwrap(),
            Format::parse("kvm", &other).unwrap(),
        ]
    }

    fn record(rw: u32, port: i32, who: &[u8; 8]) -> Vec<u8> {
        [&[0; 8][..], &rw.to_ne_bytes(), &port.to_ne_bytes(), who].concat()
    }

    fn passes(filter: &str, slot: usize) -> bool {
        let filters = Filters::new(&[filter.to_owned()], &formats()).unwrap();
        filters.pass(slot, &record(1, -5, b"qemu\0\0\0\0"))
    }

    #[test]
    fn operators_are_ftraces() {
        for (filter, expected) in [
            ("kvm_pio.port == -5", true),
            ("kvm:kvm_pio.port != -5", false),
            ("port<0", true),
            ("port >= -4", false),
            ("rw & 3", true),
            ("rw & 0x2", false),
            ("rw==1 && !(port > 0 || port < -10)", true),
            ("rw == 0 || port == 1 && rw == 1", false),
            ("kvm_pio.who == \"qemu\"", true),
            ("kvm_pio.who ~ 'qe*'", true),
            ("kvm_pio.who != qemu", false),
        ] {
            assert_eq!(passes(filter, 0), expected, "{filter}");
        }
    }

    #[test]
    fn other_events_pass() {
        assert!(passes("kvm_pio.rw == 7", 1));
        assert!(!passes("kvm_pio.rw == 7", 0));
        // Without an event it is for all that have the field.
        assert!(!passes("rw == 7", 1));
    }

    #[test]
    fn a_record_too_short_does_not_pass() {
        let filters = Filters::new(&["port == 0".to_owned()], &formats()).unwrap();
        assert!(!filters.pass(0, &[0; 12]));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (filter, message) in [
            (
                "port",
                "filter `port`: expected one of == != < <= > >= & ~ at `the end`",
            ),
            ("port ==", "filter `port ==`: expected a value at `the end`"),
            (
                "(port == 1",
                "filter `(port == 1`: expected `)` at `the end`",
            ),
            (
                "port == 1 port",
                "filter `port == 1 port`: expected &&, || or the end at `port`",
            ),
            (
                "port == x",
                "filter `port == x`: kvm_pio.port is a number: give one, such as 8 or 0x3f8",
            ),
            (
                "who > 1",
                "filter `who > 1`: kvm_pio.who is text: it can be compared with ==, != and ~",
            ),
            (
                "kvm_pio.prot == 1",
                "filter `kvm_pio.prot == 1`: no selected event has the field kvm_pio.prot; kvm:kvm_pio has rw, port, who",
            ),
        ] {
            let error = Filters::new(&[filter.to_owned()], &formats()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_a_filter_or_an_error(filter in "[a-z.&|!()<>=~ 0-9x\"'é-]{0,40}") {
            let _ = Filters::new(&[filter], &formats());
        }

        #[test]
        fn deep_nesting_is_an_error(depth in 100usize..5000) {
            prop_assert!(Filters::new(&["(".repeat(depth)], &formats()).is_err());
            prop_assert!(Filters::new(&["!".repeat(depth)], &formats()).is_err());
        }
    }
}
