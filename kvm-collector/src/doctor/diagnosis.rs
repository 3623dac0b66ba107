//! Result types of the checks.

use std::fmt;

use serde::Serialize;

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

/// What the kernel refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The step that failed, and the kernel's error.
    pub error: String,
    /// How to fix it.
    pub advice: String,
}

/// An option that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedOption {
    /// The option, such as `--preempt`.
    pub option: &'static str,
    /// Why it does not work.
    #[serde(flatten)]
    pub refusal: Refusal,
}

/// Result for a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandCheck {
    /// Name of the command.
    pub command: &'static str,
    /// `ok`: it works. `warn`: it works without some options. `fail`: it does not work. `skip`: it could not be tried, at
    /// least not completely.
    pub status: Status,
    /// The error and what to do, if the status is `fail` or `skip`.
    pub refusal: Option<Refusal>,
    /// The options that do not work.
    pub without: Vec<FailedOption>,
    /// Whether the command needs the events `kvm_exit` and `kvm_entry`.
    #[serde(skip)]
    pub needs_exit_events: bool,
}

impl CommandCheck {
    pub(super) fn new(command: &'static str, status: Status, refusal: Option<Refusal>) -> Self {
        Self {
            command,
            status,
            refusal,
            without: Vec::new(),
            needs_exit_events: false,
        }
    }

    /// Returns whether the command works, at least without some options.
    #[must_use]
    pub fn works(&self) -> bool {
        matches!(self.status, Status::Ok | Status::Warn)
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
