//! Names of the kinds of exits. Each architecture has its own kinds.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::Kind;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Error for the name of a [`Kind`] that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of exit `{name}`: use one of {}", Kind::ALL.map(Kind::name).join(", "))]
pub struct UnknownKind {
    /// The unknown name.
    pub name: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| UnknownKind {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_their_kinds() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>(), Ok(kind));
        }
    }

    #[test]
    fn unknown_kind_error_lists_the_kinds() {
        let error = "nmi".parse::<Kind>().unwrap_err().to_string();
        assert!(
            error.contains("`nmi`") && error.contains("page-fault"),
            "{error}"
        );
    }
}
