//! `exits` of the running kernel.

use std::process::ExitCode;

use super::{
    super::{
        global::GlobalOptions,
        no_match, origin,
        timing::map_sizes,
        tracefs::{find_format, open_tracefs},
    },
    args::ExitsArgs,
    writer::Total,
};
use crate::{
    host, session,
    source::{Live, LiveOptions},
};

pub(super) async fn run(args: &ExitsArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let tracefs = open_tracefs()?;
    let find = |system: &str, name: &str| find_format(&tracefs, system, name);
    let timing = args.timing_request(&find)?;
    let reasons = args.reasons.codes(timing.exit.as_ref(), host::kvm::isa())?;
    let origin = origin::of_host(args.selected_by());
    let mut writer = args.writer(reasons, &timing, origin, global)?;
    let overhead = args.overhead.start()?;
    let mut live = Live::start(LiveOptions {
        entry: timing.entry.clone(),
        timing: Some(timing.clone()),
        selection: args.target.for_running_kernel()?,
        sizes: map_sizes(args.max_rows),
        logs_programs: global.ebpf_log,
        ..LiveOptions::default()
    })?;
    let mut schedule = args.stop.conditions().start(args.interval)?;
    session::exits::live(&mut live, &timing, &mut schedule, &mut writer).await?;
    let Total {
        row_count,
        loss,
        unselected,
    } = writer.total;
    if row_count == 0 {
        let request = args.no_match_request(&timing);
        log::warn!("{}", no_match::explain_live(&request, &unselected));
    }
    if let Some(overhead) = overhead {
        overhead.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&loss)
    })
}
