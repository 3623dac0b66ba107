//! What `convert` prints on stderr at the end: the summary, and why nothing was converted.

use super::args::{ConvertArgs, Converted};
use crate::{
    cli::no_match::{self, RecordingSelection, Request, Requested},
    format::{describe_other_losses, units::plural},
    session::print_message,
};

/// Prints the summary. `files` is the number of files of `-o`.
pub(super) fn print(args: &ConvertArgs, converted: &Converted, files: usize) {
    let mut text = format!("{} read", plural(converted.summary.events, "event"));
    if let Some(exits) = converted.exits_written {
        text += &format!(", {}", plural(exits, "exit"));
    }
    if args.partition_folder().is_some() {
        text += &format!(", {}", plural(files as u64, "file"));
    }
    text += &format!(", {} lost", plural(converted.loss.lost, "event"));
    text += &describe_other_losses(&converted.loss);
    print_message(&format!("{}: {text}", args.output.display()));
}

/// Warns if nothing was converted, and says which option left it out.
pub(super) fn warn_if_empty(args: &ConvertArgs, converted: &Converted) {
    let exits = converted.exits_written;
    if exits.unwrap_or(converted.summary.events) > 0 {
        return;
    }
    // The summary already names exits without a time.
    if exits.is_some() && converted.loss.untimed_exits() > 0 {
        return;
    }
    let request = Request {
        requested: match exits {
            Some(_) => Requested::Exits,
            None => Requested::Events,
        },
        target: &args.target,
        reasons: Some(&args.reasons),
        // Exits are written whatever events are selected.
        events: exits.is_none().then_some(&args.events),
    };
    let selected = &converted.selected;
    let selection = RecordingSelection {
        path: &args.input,
        codes: selected.codes.as_deref(),
        formats: &selected.formats,
        is_part: selected.is_part,
    };
    log::warn!("{}", no_match::explain_recorded(&request, selection, &[]));
}
