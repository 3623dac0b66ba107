//! The command line of `record` that a recording contains.

use std::iter;

use clap::{Parser, Subcommand};

use super::args::RecordArgs;
use crate::{
    cli::global::GlobalArgs, outside_text::OutsideText, recording::Metadata, view::SelectedBy,
};

/// A command line of `record` alone. Those of other commands are errors.
#[derive(Debug, Parser)]
struct RecordCommandLine {
    #[command(subcommand)]
    command: RecordCommand,
    #[command(flatten)]
    _global: GlobalArgs,
}

#[derive(Debug, Subcommand)]
enum RecordCommand {
    Record(Box<RecordArgs>),
}

/// Returns the command line of this process, which the recording is to contain. Other bytes than UTF-8 are escaped.
pub(super) fn own() -> Vec<String> {
    let text = |argument: std::ffi::OsString| match argument.into_string() {
        Ok(text) => text,
        Err(bytes) => OutsideText::new(bytes.as_encoded_bytes())
            .escaped()
            .into_owned(),
    };
    std::env::args_os().map(text).collect()
}

/// Maximum number of arguments of a recorder that are parsed. A glob takes up to 1 ms to compile, and a list of recordings can have
/// thousands of them.
const MAX_ARGUMENTS: usize = 200;

/// Returns what `record` selected. It is nothing if another program made the recording, because its options mean something else,
/// or if a version of `record` did that had other options.
pub(in crate::cli) fn selection_of(metadata: &Metadata) -> SelectedBy {
    if !metadata.is_recorded_by_us() || metadata.command.len() > MAX_ARGUMENTS {
        return SelectedBy::default();
    }
    parse(&metadata.command).unwrap_or_default()
}

fn parse(command: &[String]) -> Option<SelectedBy> {
    // The program may have another name.
    let arguments = iter::once("kvm-collector").chain(command.iter().skip(1).map(String::as_str));
    let RecordCommand::Record(args) = RecordCommandLine::try_parse_from(arguments).ok()?.command;
    Some(SelectedBy {
        event: args.events.given(),
        reason: args.reasons.patterns(),
        ..args.target.selected_by()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(command: &str) -> Option<Vec<String>> {
        let command: Vec<_> = command.split(' ').map(str::to_owned).collect();
        Some(parse(&command)?.descriptions())
    }

    #[test]
    fn the_selection_of_a_recording_is_that_of_its_command_line() {
        assert_eq!(selected("kvm-collector record"), Some(vec![]));
        assert_eq!(
            selected(
                "./kc --color never record -q --vm web-* --vcpu 0-3 -e kvm_exit -o /tmp/k.data -- sleep 1"
            ),
            Some(vec![
                "VM web-*".to_owned(),
                "vCPU 0-3".to_owned(),
                "event kvm_exit".to_owned()
            ])
        );
        assert_eq!(
            selected("kvm-collector record --option-of-later-versions"),
            None
        );
        assert_eq!(selected("kvm-collector stat"), None);
        assert_eq!(selected("kvm-collector --help"), None);
        assert_eq!(selected(""), None);
    }
}
