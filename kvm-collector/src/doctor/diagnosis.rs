//! Result types of the checks.

use std::fmt;

use serde::Serialize;

use super::CommandCheck;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No problem.
    Ok,
    /// Some features do not work, or some events are not visible.
    Warn,
    /// The collector cannot work on this host.
    Fail,
    /// The check could not be done.
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

/// Check of one property of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Property that was checked.
    pub name: &'static str,
    /// Result.
    pub status: Status,
    /// State of the property on this host.
    pub found: String,
    /// How to fix the problem, or its consequence; `None` if the status is [`Status::Ok`].
    pub advice: Option<String>,
}

impl Check {
    /// Returns a check without a problem.
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            advice: None,
        }
    }

    /// Returns a check with a problem or without a result, and its advice.
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

/// Results of all checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Whether the collector works on this host: no check failed, and at least one command works.
    pub usable: bool,
    /// Whether `kvm_exit` and `kvm_entry` fire for a guest on this host; `None` if the probe failed.
    pub exits_fire: Option<bool>,
    /// All checks. A cause comes before its consequences.
    pub checks: Vec<Check>,
    /// Whether each measuring command works.
    pub commands: Vec<CommandCheck>,
}

impl Diagnosis {
    /// Summarizes the checks.
    #[must_use]
    pub fn new(exits_fire: Option<bool>, checks: Vec<Check>, commands: Vec<CommandCheck>) -> Self {
        let no_check_failed = checks.iter().all(|check| check.status != Status::Fail);
        Self {
            usable: no_check_failed && commands.iter().any(CommandCheck::works),
            exits_fire,
            checks,
            commands,
        }
    }
}
