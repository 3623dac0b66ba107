//! The collector under load: full rings, stopped collectors, output that is not read, busy CPUs.
//!
//! Counts stay exact, each event is either delivered or counted as lost, memory stays bounded, and the guest never waits for
//! the collector.

mod blocked_terminal;
mod busy_cpus;
mod load;
mod memory_limit;
mod slow_output;
mod slow_reader;
mod stopped_collector;
mod stopped_output;

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;

use self::{
    blocked_terminal::{blocked_terminal, blocked_terminal_with_many_vms},
    busy_cpus::busy_cpus,
    load::{Load, check_all_accounted, check_all_accounted_in},
    slow_output::{slow_record, slow_terminal, slow_trace, stalled_record, stalled_trace},
    stopped_collector::{stopped_exits, stopped_record, stopped_stat, stopped_trace},
    stopped_output::{
        end_while_output_blocks, names_while_output_blocks, output_never_read, stopped_output,
    },
};
use crate::{
    check::{ensure, ensure_equal, get_number},
    counts::event_count,
    exit_reasons,
    exits::counts_by_code,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    temp_files::TempDir,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

const EXIT_REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

/// The iterations of a guest that causes about 100,000 events, which are 10 MB of text.
const MANY_ITERATIONS: &str = "8000";

/// Options for small rings and the smallest output buffer.
const SMALL_BUFFERS: &[&str] = &["--ring", "64K", "--buffer", "2M"];

/// A collector ends within this time after a signal, also on a busy machine under emulation.
const MAX_DELAY: Duration = Duration::from_secs(3);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("pressure_full_ring", REQUIREMENTS, full_ring),
        test("pressure_stopped_stat", REQUIREMENTS, stopped_stat),
        test("pressure_stopped_exits_of_a_kind", REQUIREMENTS, || {
            stopped_exits(&["--kind", "pio"], |report, guest| {
                ensure_equal(
                    "accesses",
                    get_number(report, "count")?,
                    guest.operation_count(0, "io")?,
                )
            })
        }),
        test("pressure_stopped_exits", EXIT_REQUIREMENTS, || {
            stopped_exits(&[], |report, guest| {
                let exits = exit_reasons::without_host_exits(counts_by_code(report)?);
                ensure_equal("exits per reason", exits, guest.exits()?)
            })
        }),
        test("pressure_stopped_trace", REQUIREMENTS, stopped_trace),
        test("pressure_stopped_record", REQUIREMENTS, stopped_record),
        test("pressure_slow_output_of_trace", REQUIREMENTS, slow_trace),
        test("pressure_slow_output_of_record", REQUIREMENTS, slow_record),
        test("pressure_slow_terminal", REQUIREMENTS, slow_terminal),
        test(
            "pressure_stalled_output_of_trace",
            REQUIREMENTS,
            stalled_trace,
        ),
        test(
            "pressure_stalled_output_of_record",
            REQUIREMENTS,
            stalled_record,
        ),
        test(
            "pressure_output_stopped_for_long",
            REQUIREMENTS,
            stopped_output,
        ),
        test(
            "pressure_names_while_output_is_stopped",
            REQUIREMENTS,
            names_while_output_blocks,
        ),
        test(
            "pressure_end_while_output_is_stopped",
            REQUIREMENTS,
            end_while_output_blocks,
        ),
        test(
            "pressure_output_never_read",
            REQUIREMENTS,
            output_never_read,
        ),
        test(
            "pressure_two_signals_at_once",
            REQUIREMENTS,
            two_signals_at_once,
        ),
        test(
            "pressure_top_on_a_blocked_terminal",
            REQUIREMENTS,
            blocked_terminal,
        ),
        test(
            "pressure_top_of_many_vms_on_a_blocked_terminal",
            REQUIREMENTS,
            blocked_terminal_with_many_vms,
        ),
        test("pressure_busy_cpus", REQUIREMENTS, busy_cpus),
    ]
}

/// The rings of `trace` and `record` are too small for all events at full rate. (`small_ring.rs` tests that with few events.)
fn full_ring() -> Result<(), Failed> {
    let folder = TempDir::new("full-ring")?;
    let file = folder.file("kvm.data");
    let load = Load::prepare(MANY_ITERATIONS)?;
    let args = ["--ring", "4K", "-p", &load.pid()];
    let trace = RunningCollector::start(&[&["trace", "--json"], &args[..]].concat())?;
    let record = RunningCollector::start(&[&["record", "-o", &file], &args[..]].concat())?;
    let load_report = load.run()?;
    check_all_accounted(&trace.end()?.expect_code(0)?, &load_report)?;
    record.end()?.expect_code(0)?;
    check_all_accounted_in(&file, &load_report)
}

/// Signals in quick succession count as one, so the report is printed. (`timeout` signals its command and the process group.)
fn two_signals_at_once() -> Result<(), Failed> {
    let load = Load::prepare("1000")?;
    let collector = RunningCollector::start(&["stat", "--json", "-p", &load.pid()])?;
    let load_report = load.run()?;
    for _ in 0..2 {
        collector.signal(Signal::INT)?;
        thread::sleep(Duration::from_millis(1));
    }
    let report = collector
        .end_with_signal(Signal::INT)?
        .expect_code(0)?
        .report()?;
    ensure_equal(
        "userspace exits",
        event_count(&report, "kvm:kvm_userspace_exit")?,
        load_report.guest.userspace_exits()?,
    )
}

/// Fails if more than [`MAX_DELAY`] has passed since `start`.
fn check_delay(start: Instant) -> Result<(), Failed> {
    let elapsed = start.elapsed();
    ensure(elapsed < MAX_DELAY, || format!("it took {elapsed:?}"))
}
