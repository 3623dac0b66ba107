//! What `convert` prints on stderr at the end.

use super::args::{ConvertArgs, Converted};
use crate::{
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
