//! Compiled filters, which are evaluated for every event.

use globset::GlobMatcher;

use crate::tracefs::Field;

/// A compiled filter for one event.
#[derive(Debug)]
pub(super) enum Predicate {
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
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

/// An operator on numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberOp {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `&`: any bit is set in both.
    AnyBit,
}

impl Predicate {
    /// Returns whether a record matches. A record that is too short for a field does not match.
    pub(super) fn matches(&self, record: &[u8]) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|it| it.matches(record)),
            Self::Or(parts) => parts.iter().any(|it| it.matches(record)),
            Self::Not(node) => !node.matches(record),
            Self::Number { field, op, value } => field
                .read_u64(record)
                .is_some_and(|found| op.matches(found, *value, field.signed)),
            Self::Text { field, glob } => text(field, record).is_some_and(|it| glob.is_match(it)),
        }
    }
}

impl NumberOp {
    /// Returns whether `found OP value` is true.
    fn matches(self, found: u64, value: u64, signed: bool) -> bool {
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
            Self::AnyBit => found & value != 0,
        }
    }
}

/// Returns the text of a field up to its NUL; `None` if the record is too short, or if it is not UTF-8.
fn text<'r>(field: &Field, record: &'r [u8]) -> Option<&'r str> {
    let bytes = field.bytes(record)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(text).ok()
}
