//! Errors in the use of the command line. They end with exit code 2, like errors of the argument parser.

use crate::{model::UnknownKind, outside_text::OutsideText, probe::PlanError, tracefs};

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

/// Returns whether the command line is the cause of an error.
pub(super) fn is_usage_error(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<UnknownKind>()
            || cause.is::<tracefs::UnknownReason>()
            || matches!(
                cause.downcast_ref(),
                Some(
                    tracefs::EventsError::Unknown { .. }
                        | tracefs::EventsError::UnknownSystem { .. }
                        | tracefs::EventsError::BadPattern { .. }
                )
            )
            || matches!(
                cause.downcast_ref(),
                Some(PlanError::TooManyEvents { .. } | PlanError::TooManyIds { .. })
            )
    })
}

/// Prints an error of the argument parser that may quote anything, and ends the process.
pub(super) fn exit_without_style(error: &clap::Error) -> ! {
    for line in error.to_string().lines() {
        eprintln!("{}", OutsideText::new(line));
    }
    #[expect(clippy::exit, reason = "as `clap::Error::exit`")]
    std::process::exit(error.exit_code())
}
