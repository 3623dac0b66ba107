//! Each selector (`-p`, `--vm`, `--vcpu`, `--tid`) selects the same events live and in a recording.

use libtest_mimic::Failed;

use super::{
    RECORDED, RECORDED_WITHOUT_SWITCHES,
    compare::{compare_counts, compare_exits, compare_losses},
};
use crate::{
    guest::Guest, process::run_collector, running_collector::RunningCollector, temp_files::TempDir,
};

/// The events that `stat` counts.
const COUNTED: &str = "kvm:*,sched:sched_switch";

/// `command` is `stat`, `exits` or a kind of exits. A collector per selector counts two VMs, and another collector records them. One VM starts after the collectors.
pub(super) fn live_equals_recorded(command: &str) -> Result<(), Failed> {
    let folder = TempDir::new("live-and-recorded")?;
    let file = folder.file("kvm.data");
    let load = ["-k", "io,cpuid,mmio,msr,hlt", "--vcpus", "2"];
    let mut early = Guest::prepare(
        &[
            &load[..],
            &["-n", "60", "--sleep", "5ms", "--name", "early"],
        ]
        .concat(),
    )?;
    let tid = early.tids[1].to_string();
    let pid = early.pid.clone();
    let selectors: [&[&str]; 6] = [
        &[],
        &["-p", &pid],
        &["--vm", "late"],
        &["--vcpu", "1"],
        &["-p", &pid, "--vcpu", "1"],
        &["--tid", &tid],
    ];
    let (options, events): (&[&str], _) = match command {
        "stat" => (&["stat", "--json", "--per-vm", "-e", COUNTED], RECORDED),
        "exits" => (
            &["exits", "--json", "--by", "vm,vcpu,reason"],
            RECORDED_WITHOUT_SWITCHES,
        ),
        // These events do not have the vCPU of their thread.
        _ => (
            &[
                "exits",
                "--json",
                "--by",
                "vm,vcpu,reason",
                "--kind",
                command,
            ],
            RECORDED_WITHOUT_SWITCHES,
        ),
    };
    let record = ["record", "--strict", "-e", events, "-o", &file];
    let record = RunningCollector::start(&[&record[..], &["--ring", "16M"]].concat())?;
    let mut live = Vec::new();
    for selector in selectors {
        live.push(RunningCollector::start(&[options, selector].concat())?);
    }
    let mut late =
        Guest::prepare(&[&load[..], &["-n", "80", "--sleep", "4ms", "--name", "late"]].concat())?;
    let late_pid = late.pid.clone();
    early.start()?;
    late.start()?;
    early.finish()?;
    late.finish()?;
    record.end()?.expect_code(0)?;
    for (selector, live) in selectors.into_iter().zip(live) {
        let live = live.end()?.expect_code(0)?.report()?;
        let from_file = [options, selector, &["-i", &file]].concat();
        let recorded = run_collector(&from_file)?.expect_code(0)?.report()?;
        let pids: &[&str] = match selector {
            [] | ["--vcpu", _] => &[&pid, &late_pid],
            ["--vm", _] => &[&late_pid],
            _ => &[&pid],
        };
        let compare = match command {
            "stat" => compare_counts,
            _ => compare_exits,
        };
        compare(&live, &recorded, pids, selector.is_empty())
            .and_then(|()| compare_losses(&live, &recorded, selector[..].starts_with(&["--vcpu"])))
            .map_err(|error| format!("{selector:?}: {}", error.message().unwrap_or_default()))?;
    }
    Ok(())
}
