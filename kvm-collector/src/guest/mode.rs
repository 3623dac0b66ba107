//! Names of the processor modes. Each architecture has its own modes.

use std::fmt;
use std::str::FromStr;

use super::Mode;

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Error for the name of a [`Mode`] that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown processor mode `{name}`: use {}", Mode::ALL.map(Mode::name).join(" or "))]
pub struct UnknownMode {
    /// The unknown name.
    pub name: String,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| UnknownMode {
                name: name.to_owned(),
            })
    }
}
