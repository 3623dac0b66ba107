//! `kvm-collector list`.

mod listing;
mod recorded_vms;
mod text;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{
    inputs::Inputs, named_output::open_stdout, output::stdout_width, sandbox::RecordingFiles,
    selection::GlobList, time_range::RangeArgs, usage::bail_usage,
};
use crate::format::{json, text::TextStyle};
use listing::{Listing, Subject};

/// List the events, VMs, exit reasons and kinds that other commands can select
///
/// --from and --until select the VMs of a recording: those that had events in this time.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector list                      the events and VMs of this host
  kvm-collector list vms
  kvm-collector list reasons              values of --reason
  kvm-collector list kinds                values of --kind
  kvm-collector list events -e 'kvmmmu:*'
  kvm-collector list -i kvm.data          the events and VMs of a recording
  kvm-collector list vms -i kvm.data --from 10s --until 12s
                                          the VMs that had events in this time")]
pub(super) struct ListArgs {
    /// List only this [default: events and vms]
    #[arg(value_name = "WHAT")]
    what: Option<Subject>,

    /// Select events by name; globs work (kvm_exit, 'kvmmmu:*')
    #[arg(short, long = "event", value_name = "GLOB")]
    events: Vec<GlobList>,

    /// Read a recording instead of the running kernel; - is stdin
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    #[command(flatten)]
    range: RangeArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Returns the recording.
    pub(super) fn files(&self) -> RecordingFiles {
        RecordingFiles {
            inputs: self.input.iter().cloned().collect(),
            outputs: Vec::new(),
        }
    }
}

pub(super) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    args.range.check_has_input(args.input.is_some())?;
    let input = Inputs::find_one(args.input.as_slice(), "list")?;
    let lists_by_event = match args.what {
        None | Some(Subject::Events) => true,
        // The VMs of a recording are those that have events.
        Some(Subject::Vms) => args.input.is_some(),
        Some(Subject::Reasons | Subject::Kinds) => false,
    };
    if !args.events.is_empty() && !lists_by_event {
        bail_usage!("-e selects events: use it with `list events`, or with `list vms -i FILE`");
    }
    let lists_recorded_vms = matches!(args.what, None | Some(Subject::Vms));
    if !args.range.is_empty() && !lists_recorded_vms {
        bail_usage!(
            "--from and --until select the VMs of a recording: use them with `list -i FILE`, or with `list vms -i FILE`"
        );
    }
    let subjects = match &args.what {
        Some(subject) => vec![*subject],
        None => vec![Subject::Events, Subject::Vms],
    };
    let listing = match &input {
        Some(path) => {
            Listing::of_recording(path, &subjects, &GlobList::all(&args.events), &args.range)?
        }
        None => Listing::of_host(&subjects, &GlobList::all(&args.events))?,
    };
    let mut out = open_stdout()?;
    if args.json {
        json::write_line(&listing, &mut out)?;
    } else {
        let style = TextStyle {
            max_width: stdout_width(),
            ..TextStyle::default()
        };
        text::write(&listing, style, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
