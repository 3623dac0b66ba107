//! What a diagnosis consists of.

use std::fmt;

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Something will not work, or not be seen; the rest does.
    Warn,
    /// The collector cannot do its work.
    Fail,
    /// Could not be looked at.
    Skip,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it, or what follows from it; `None` when there is nothing to do.
    pub advice: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            advice: None,
        }
    }

    pub(super) fn not_ok(
        name: &'static str,
        status: Status,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name,
            status,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }
}

/// All that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Whether `kvm_exit` and `kvm_entry` fire for a guest on this host; `None` when it could not be tried.
    pub exits_fire: Option<bool>,
    /// Each check, causes before consequences.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether the collector can do its main work here: nothing failed.
    #[must_use]
    pub fn works(&self) -> bool {
        self.checks.iter().all(|check| check.status != Status::Fail)
    }
}
