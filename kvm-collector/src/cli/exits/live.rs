//! `exits` of the running kernel.

use std::process::ExitCode;

use super::{
    super::{
        event_formats::EventFormats, global::GlobalOptions, no_match, origin, sandbox,
        stop::check_live_interval, tracefs::open_tracefs_with_kvm,
    },
    args::ExitsArgs,
};
use crate::{
    host,
    session::{self, ProgressLine},
    source::{Live, LiveOptions},
    timing::TimingRequest,
};

pub(super) async fn run(args: &ExitsArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    check_live_interval(args.interval)?;
    let tracefs = open_tracefs_with_kvm(args.target.no_wait)?;
    let timing = TimingRequest {
        host_isa: host::kvm::isa(),
        ..args.timing_request(&EventFormats::Kernel(&tracefs))?
    };
    let reasons = args.reasons.codes(timing.exit.as_ref(), timing.host_isa)?;
    let conditions = args.stop.conditions();
    let formats = timing.exit.iter().chain(&timing.entry);
    let origin = origin::of_host(args.selected_by(), conditions.command_line(), formats);
    let is_long = args.interval.is_some() || args.slow.is_some();
    let out = args.output.open(&[], is_long)?;
    let mut writer = args.writer(reasons, &timing, origin, global, out)?;
    let overhead = args.overhead.start()?;
    let selection = args.target.for_running_kernel()?;
    let mut live = Live::start(LiveOptions {
        logs_programs: global.ebpf_log,
        ..args.live_options(&timing, selection)
    })?;
    let mut schedule = conditions.start(args.interval)?;
    sandbox::enter_to_measure(
        &mut live,
        args.output.files(),
        conditions.has_command(),
        global,
    );
    let is_quiet = global.quiet || args.interval.is_some() || args.slow.is_some();
    let mut progress = ProgressLine::new(is_quiet);
    session::exits::live(
        &mut live,
        &timing,
        &mut schedule,
        &mut progress,
        &mut writer,
    )
    .await?;
    let total = (&writer.total, &writer.origin);
    let exit_code = args.output.finish(writer.out, total.0, total.1)?;
    if writer.rows == 0 {
        let request = args.no_match_request(&timing);
        log::warn!("{}", no_match::explain_live(&request, &writer.unselected));
    }
    if let Some(overhead) = overhead {
        overhead.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed { ExitCode::FAILURE } else { exit_code })
}
