//! Combinations of the options of `exits` in which one would have no effect. They are errors, so that
//! nobody waits for a number that cannot appear.

use super::args::{ExitsArgs, SortArg};
use crate::{
    cli::{output::OutputFormat, usage::bail_usage},
    model::{EventKind, VMEXIT},
    view::GroupBy,
};

/// Checks that every option has an effect.
///
/// # Errors
/// When the combination is not possible.
pub(super) fn check_options(args: &ExitsArgs) -> anyhow::Result<()> {
    if args.output.format() == OutputFormat::Csv {
        let lines = [
            ("--causes", args.causes.is_some()),
            ("--advice", args.advice),
            ("--hist", args.hist),
            ("--slow", args.slow.is_some()),
        ];
        if let Some((option, _)) = lines.into_iter().find(|(_, is_given)| *is_given) {
            bail_usage!(
                "{option} cannot be used with CSV output, where all lines have the same columns: use --json"
            );
        }
    }
    if !args.reasons.is_empty() && args.kind != VMEXIT {
        bail_usage!(
            "--reason cannot be used with --kind {}: it selects VM exits by reason",
            args.kind
        );
    }
    let has_causes = args.causes.is_some() || args.slow.is_some() || args.advice;
    if !args.cause.is_empty() && !has_causes {
        bail_usage!("--cause needs --causes, --slow or --advice, which show causes");
    }
    if args.causes.is_some() && args.cause.is_empty() && is_cause(&args.kind) {
        bail_usage!(
            "--causes cannot be used with --kind {}: its rows already are the causes; add --cause rip to see the code in the guest",
            args.kind
        );
    }
    for cause in &args.cause {
        if cause == VMEXIT {
            bail_usage!(
                "--cause {VMEXIT} is not possible: a VM exit is not its own cause; use another kind, or rip"
            );
        }
        let event = |kind: &str| EventKind::from_name(kind).map(|it| it.event).ok();
        if event(cause).is_some_and(|it| event(&args.kind) == Some(it)) {
            bail_usage!(
                "--cause {cause} cannot be used with --kind {}: an event is not its own cause",
                args.kind
            );
        }
    }
    if args.advice && !args.group_by().contains(&GroupBy::Reason) {
        bail_usage!("--advice needs rows by reason: add reason to --by, such as --by vm,reason");
    }
    check_sort(args)?;
    check_percentiles(args)
}

/// Returns whether events of this kind are themselves causes of exits.
fn is_cause(kind: &str) -> bool {
    let event = EventKind::from_name(kind).map(|it| it.event);
    let causes = EventKind::cause_kinds();
    event.is_ok_and(|event| causes.iter().any(|it| it.event == event))
}

/// Checks that all percentiles of `--percentiles` are shown or sorted by: `--columns` may leave them out.
fn check_percentiles(args: &ExitsArgs) -> anyhow::Result<()> {
    if args.columns.is_empty() {
        return Ok(());
    }
    let is_used = |percent: &f64| {
        let name = format!("p{percent}");
        let mut columns = args.columns.iter();
        columns.any(|it| it.eq_ignore_ascii_case(&name))
            || args.sort == Some(SortArg::Percentile(*percent))
    };
    if let Some(unused) = args.percentiles.iter().find(|it| !is_used(it)) {
        bail_usage!(
            "--percentiles {unused} has no effect, because --columns does not show it: add p{unused} to --columns"
        );
    }
    Ok(())
}

/// Checks that a percentile that rows are sorted by is a column.
fn check_sort(args: &ExitsArgs) -> anyhow::Result<()> {
    let Some(SortArg::Percentile(percent)) = args.sort else {
        return Ok(());
    };
    if args.baseline.is_given() {
        // Checked together with the other keys of a comparison.
        return Ok(());
    }
    let shown = match args.percentiles.as_slice() {
        [] => &[50.0, 99.0],
        requested => requested,
    };
    if shown.contains(&percent) {
        return Ok(());
    }
    let requested = args.percentiles.iter().copied().chain([percent]);
    let requested: Vec<_> = requested.map(|it| it.to_string()).collect();
    bail_usage!(
        "--sort p{percent} needs this percentile as a column: give --percentiles {}",
        requested.join(",")
    );
}
