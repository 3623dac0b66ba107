//! Errors in the use of the command line. They end with exit code 2, like errors of the argument parser.

use std::{io, path::Path};

use crate::{
    model::UnknownKind,
    outside_text::OutsideText,
    probe::{PlanError, ProbeError},
    recording::ReadError,
    session::write_stderr,
    timing::TimingError,
    tracefs,
    view::{BaselineError, FilterError},
};

/// Exit code of errors in the use of the command line.
pub(super) const EXIT_USAGE: u8 = 2;

/// Options that do not fit together, or a value that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// Returns early with a [`UsageError`].
macro_rules! bail_usage {
    ($($message:tt)*) => {
        return Err($crate::cli::usage::UsageError(format!($($message)*)).into())
    };
}
pub(super) use bail_usage;

/// Returns whether the command line is the cause of an error: an option or a value that is invalid, that does not fit
/// to another one, or that names something that does not exist: a recording, a baseline, a VM, a process, a thread, an
/// event, an exit reason or a time. A file of another type counts as absent. Other errors can end without another
/// command line: missing privileges, a damaged recording, a full disk.
pub(super) fn is_usage_error(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<UnknownKind>()
            || cause.is::<tracefs::UnknownReason>()
            || cause.is::<FilterError>()
            || matches!(
                cause.downcast_ref(),
                Some(
                    tracefs::EventsError::Unknown { .. }
                        | tracefs::EventsError::UnknownSystem { .. }
                        | tracefs::EventsError::BadPattern { .. }
                )
            )
            || cause.downcast_ref().is_some_and(is_unsuitable_baseline)
            || cause.downcast_ref().is_some_and(is_unsuitable_recording)
            || cause.downcast_ref().is_some_and(is_unsuitable_kind)
            || cause.downcast_ref().is_some_and(is_impossible_plan)
            || matches!(cause.downcast_ref(), Some(ProbeError::Plan(plan)) if is_impossible_plan(plan))
    })
}

/// Returns whether a file is not a baseline for this command. Otherwise it cannot be read.
fn is_unsuitable_baseline(error: &BaselineError) -> bool {
    !matches!(error, BaselineError::Unreadable(_))
}

/// Returns whether a recording does not exist, or is a file of another type.
pub(super) fn is_unsuitable_recording(error: &ReadError) -> bool {
    match error {
        ReadError::Io { path, source } => {
            // What is missing for standard input is the folder in which it is stored.
            source.kind() == io::ErrorKind::NotFound && path != Path::new("-")
        }
        ReadError::NotARecording { .. } | ReadError::Unsuitable { .. } => true,
        _ => false,
    }
}

/// Returns whether more is selected than the eBPF programs can measure.
fn is_impossible_plan(error: &PlanError) -> bool {
    match error {
        PlanError::TooManyEvents { .. } | PlanError::TooManyIds { .. } => true,
        PlanError::Timing(error) => is_unsuitable_kind(error),
        _ => false,
    }
}

/// Returns whether exits cannot be timed because of the kinds of events that were requested.
fn is_unsuitable_kind(error: &TimingError) -> bool {
    matches!(
        error,
        TimingError::NoKindField { .. } | TimingError::TooManyDetails(_)
    )
}

/// Prints an error of the argument parser that may quote anything, and ends the process.
pub(super) fn exit_without_style(error: &clap::Error) -> ! {
    for line in error.to_string().lines() {
        write_stderr(format_args!("{}\n", OutsideText::new(line)));
    }
    #[expect(clippy::exit, reason = "as `clap::Error::exit`")]
    std::process::exit(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_the_command_line_causes_are_usage_errors() {
        let many = || PlanError::TooManyEvents { selected: 999 };
        assert!(is_usage_error(&many().into()));
        assert!(is_usage_error(&ProbeError::from(many()).into()));
        let kind = TimingError::TooManyDetails(99);
        assert!(is_usage_error(
            &ProbeError::from(PlanError::from(kind)).into()
        ));
        assert!(!is_usage_error(&ProbeError::NoObject.into()));
        assert!(!is_usage_error(&TimingError::NoEvent("kvm_exit").into()));
    }

    #[test]
    fn files_that_are_absent_or_of_another_type_are_usage_errors() {
        let io = |path: &str, kind: io::ErrorKind| ReadError::Io {
            path: path.into(),
            source: kind.into(),
        };
        let absent = || io("kvm.data", io::ErrorKind::NotFound);
        assert!(is_usage_error(&absent().into()));
        assert!(is_usage_error(&anyhow::Error::from(absent()).context("x")));
        assert!(is_usage_error(&BaselineError::Empty.into()));
        for error in [
            io("kvm.data", io::ErrorKind::PermissionDenied),
            io("-", io::ErrorKind::NotFound),
        ] {
            assert!(!is_usage_error(&error.into()));
        }
        let unreadable = BaselineError::Unreadable(String::new());
        assert!(!is_usage_error(&unreadable.into()));
    }
}
