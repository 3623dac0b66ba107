//! From the running kernel.

use std::process::ExitCode;

use super::{
    super::{
        common::Common,
        selection::{format_of, open_tracefs},
        timing::sizes,
    },
    args::ExitsArgs,
};
use crate::{
    session,
    source::{Live, LiveOptions},
};

pub(super) async fn run(args: &ExitsArgs, common: Common) -> anyhow::Result<ExitCode> {
    let tracefs = open_tracefs()?;
    let find = |system: &str, name: &str| format_of(&tracefs, system, name);
    let pairing = args.pairing(&find)?;
    let reasons = args.reasons.codes(pairing.exit.as_ref())?;
    let mut writer = args.writer(reasons, &pairing, common)?;
    let own = args.own.begin()?;
    let mut live = Live::start(LiveOptions {
        entry: pairing.entry.clone(),
        timing: Some(pairing.clone()),
        selection: args.target.of_running()?,
        sizes: sizes(args.max_rows),
        logs_programs: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut schedule = args.ending.ending().begin(args.interval)?;
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
