//! Errors in the use of the command line. They end with exit code 2, like errors of the argument parser.

use clap::error::{ContextKind, ContextValue, ErrorKind};

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

/// Adds a tip to an error about an unexpected argument: how a command or a file is given.
pub(super) fn add_tip(error: &mut clap::Error, command: Option<&str>) {
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return;
    };
    if argument.starts_with('-') {
        return;
    }
    let looks_like_file = argument.contains(['.', '/']);
    let tip = match command {
        Some("record") if looks_like_file => format!("to write to a file, use `-o {argument}`"),
        Some("stat" | "exits" | "trace" | "convert") if looks_like_file => {
            format!("to read a recording, use `-i {argument}`")
        }
        Some("stat" | "exits" | "trace" | "record") => {
            format!("to run a command, put `--` before it: `-- {argument} ...`")
        }
        _ => return,
    };
    let tip = ContextValue::StyledStrs(vec![tip.into()]);
    error.insert(ContextKind::Suggested, tip);
}
