//! What `trace` prints on stderr: the summary, and why nothing was printed.

use super::args::TraceArgs;
use crate::{
    cli::no_match::{self, RecordingSelection, Request, Requested},
    format::{
        describe_other_losses,
        units::{count, duration, plural},
    },
    session::{print_message, trace::TraceSummary},
};

/// Prints the summary.
pub(super) fn print(args: &TraceArgs, summary: &TraceSummary, vcpus_from_thread_names: bool) {
    let mut text = text(args, summary);
    // Lines of events have no vCPU numbers.
    if vcpus_from_thread_names && (args.per_exit || !args.selected_by().vcpu.is_empty()) {
        text += "; vCPU numbers from thread names, as the events have none";
    }
    print_message(&text);
}

fn text(args: &TraceArgs, summary: &TraceSummary) -> String {
    let loss = &summary.loss;
    let unit = if args.per_exit { "exit" } else { "event" };
    let mut text = format!(
        "{} printed, {} lost",
        plural(summary.printed, unit),
        plural(loss.lost, "event")
    );
    text += &describe_other_losses(loss);
    match summary.in_progress {
        0 => {}
        1 => text += "; 1 exit was still in progress at the end",
        number => {
            text += &format!(
                "; {} exits were still in progress at the end",
                count(number)
            )
        }
    }
    text
}

/// Warns if nothing was printed. `recording` is `None` for the running kernel.
pub(super) fn warn_if_empty(
    args: &TraceArgs,
    summary: &TraceSummary,
    recording: Option<RecordingSelection<'_>>,
) {
    // The summary already names exits without a time.
    if summary.printed > 0 || (args.prints_whole_exits() && summary.loss.untimed_exits() > 0) {
        return;
    }
    let shorter = summary.shorter;
    if shorter.count > 0 {
        let name = if args.per_exit { "exits" } else { "events" };
        log::warn!(
            "no {name} matched: {} {} shorter than --min-duration; the longest took {}",
            plural(shorter.count, "VM exit"),
            if shorter.count == 1 { "was" } else { "were" },
            duration(shorter.longest_ns)
        );
        return;
    }
    if summary.filtered > 0 {
        log::warn!(
            "no events matched: {} occurred, none of them with --filter",
            plural(summary.filtered, "event")
        );
        return;
    }
    let request = Request {
        requested: match args.prints_whole_exits() {
            true => Requested::Exits,
            false => Requested::Events,
        },
        target: &args.target,
        reasons: Some(&args.reasons),
        // Exits are shown whatever events are selected.
        events: (!args.prints_whole_exits()).then_some(&args.events),
    };
    let message = match recording {
        None => no_match::explain_live(&request, &[]),
        Some(selection) => no_match::explain_recorded(&request, selection, &[]),
    };
    log::warn!("{message}");
}
