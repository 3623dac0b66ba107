//! `exits` from the running kernel.

use std::process::ExitCode;

use super::{
    super::{
        global::GlobalOptions,
        selection::{find_format, open_tracefs},
        timing::map_sizes,
    },
    args::ExitsArgs,
};
use crate::{
    session,
    source::{Live, LiveOptions},
};

pub(super) async fn run(args: &ExitsArgs, common: GlobalOptions) -> anyhow::Result<ExitCode> {
    let tracefs = open_tracefs()?;
    let find = |system: &str, name: &str| find_format(&tracefs, system, name);
    let pairing = args.timing_request(&find)?;
    let reasons = args.reasons.codes(pairing.exit.as_ref())?;
    let mut writer = args.writer(reasons, &pairing, common)?;
    let own = args.overhead.start()?;
    let mut live = Live::start(LiveOptions {
        entry: pairing.entry.clone(),
        timing: Some(pairing.clone()),
        selection: args.target.for_running_kernel()?,
        sizes: map_sizes(args.max_rows),
        logs_programs: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut schedule = args.stop.conditions().start(args.interval)?;
    session::exits::live(&mut live, &pairing, &mut schedule, &mut writer).await?;
    let (rows, loss) = writer.total.unwrap_or_default();
    if rows == 0 {
        log::warn!(
            "no exit was seen: `kvm-collector list` shows which VMs run here, `kvm-collector doctor` whether their exits can be seen on this host"
        );
    }
    if let Some(own) = own {
        own.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&loss)
    })
}
