//! From the running kernel.

use std::{io::Write, process::ExitCode};

use super::{
    super::{Common, ending::Happened, selection::format_of, timing::sizes},
    ExitsArgs,
    writer::{Called, Moment, Writer},
};
use crate::{
    probe::Rings,
    source::{Live, LiveOptions},
    tracefs::Tracefs,
    view::ExitsReport,
};

pub(super) async fn run(args: &ExitsArgs, common: Common) -> anyhow::Result<ExitCode> {
    let tracefs = Tracefs::find_or_mount()?;
    let find = |system: &str, name: &str| format_of(&tracefs, system, name);
    let pairing = args.pairing(&find)?;
    let reasons = args.reasons.codes(pairing.exit.as_ref())?;
    let mut writer = args.writer(reasons, &pairing, common)?;
    let mut out = args.output.open()?;
    let own = args.own.begin()?;
    let mut live = Live::begin(LiveOptions {
        entry: find("kvm", "kvm_entry")?,
        pairing: Some(pairing),
        filter: args.target.filter()?,
        sizes: sizes(args.max_rows),
        log: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut rings = live.take_rings();
    let mut last = Moment::default();
    let mut course = args.ending.begin(args.interval)?;
    loop {
        tokio::select! {
            biased;
            happened = course.next() => match happened? {
                Happened::LookAround => live.look_around()?,
                Happened::Interval => {
                    let now = read(&writer, &mut live)?;
                    write(&mut writer, &last, &now, &live, &mut out)?;
                    last = now;
                }
                Happened::End => break,
            },
            () = ready(&mut rings) => {
                slow(&writer, &mut rings, &mut live, &mut out)?;
            }
        }
    }
    live.end()?;
    slow(&writer, &mut rings, &mut live, &mut out)?;
    let now = read(&writer, &mut live)?;
    if args.interval.is_some() {
        writer.total(&mut out)?;
    }
    let total = write(&mut writer, &Moment::default(), &now, &live, &mut out)?;
    if total.row_count == 0 {
        log::warn!(
            "no exit was seen: `kvm-collector list` shows which VMs run here, `kvm-collector doctor` whether their exits can be seen on this host"
        );
    }
    if let Some(own) = own {
        own.say(&live)?;
    }
    let failed = course.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&total.loss)
    })
}

/// Slow exits may have been reported; never, if none are asked for.
async fn ready(rings: &mut Option<Rings>) {
    match rings {
        Some(rings) => rings.ready().await,
        None => std::future::pending().await,
    }
}

fn read(writer: &Writer, live: &mut Live) -> anyhow::Result<Moment> {
    let pairing = live.options().pairing.as_ref();
    let counted = pairing.and_then(|it| it.counted.as_ref());
    let kind = counted.map(|it| it.kind.clone());
    Ok(writer.read(kind.as_ref(), |each| live.exits(each))?)
}

fn write(
    writer: &mut Writer,
    earlier: &Moment,
    now: &Moment,
    live: &Live,
    out: &mut impl Write,
) -> anyhow::Result<ExitsReport> {
    let called = Called {
        pairing: live.options().pairing.as_ref(),
        vm: &|tgid| live.names().get(tgid).to_owned(),
    };
    writer.write(earlier, now, called, out)
}

/// Writes the slow exits that have been reported.
fn slow(
    writer: &Writer,
    rings: &mut Option<Rings>,
    live: &mut Live,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let Some(rings) = rings else { return Ok(()) };
    loop {
        let batch = rings.drain();
        if batch.is_empty() {
            return Ok(out.flush()?);
        }
        // Of VMs not seen before, the names must be read while they live.
        live.look_around()?;
        let called = Called {
            pairing: live.options().pairing.as_ref(),
            vm: &|tgid| live.names().get(tgid).to_owned(),
        };
        for exit in batch.records().filter_map(|(_, record)| record.slow_exit()) {
            writer.slow(&exit, called, out)?;
        }
    }
}
