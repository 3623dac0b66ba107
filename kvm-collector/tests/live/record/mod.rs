//! Recordings of real events: `trace`, `stat` and perf can read what `record` writes, however the recording ends, and the
//! collector can read what perf writes.

mod failures;
mod live_equals_recorded;
mod perf_compatibility;
mod several_files;

use libtest_mimic::{Failed, Trial};

use self::{
    failures::{full_disk, killed, perf_script_after_kill},
    live_equals_recorded::{left_out_events, stat_equals_live, trace_equals_live},
    perf_compatibility::{perf_kvm_stat, perf_recordings, perf_script},
    several_files::{flight_recorder_signal, flight_recorder_trigger, rotation},
};
use crate::{
    process::{FinishedProcess, run_collector},
    requirements::{Requirement, test},
    trace_line::TraceLine,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

const WITH_PERF: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Perf,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "trace_of_a_recording_equals_live_trace",
            REQUIREMENTS,
            trace_equals_live,
        ),
        test(
            "stat_of_a_recording_equals_live_stat",
            REQUIREMENTS,
            stat_equals_live,
        ),
        test(
            "a_recording_counts_events_that_were_left_out",
            REQUIREMENTS,
            left_out_events,
        ),
        test(
            "a_recording_can_be_read_after_record_was_killed",
            REQUIREMENTS,
            killed,
        ),
        test("record_on_a_full_disk", REQUIREMENTS, full_disk),
        test("record_rotates_files", REQUIREMENTS, rotation),
        test(
            "record_flight_recorder_dumps_on_a_signal",
            REQUIREMENTS,
            flight_recorder_signal,
        ),
        test(
            "record_flight_recorder_dumps_on_a_trigger",
            &[
                Requirement::Root,
                Requirement::Kvm,
                Requirement::ExitEvents,
                Requirement::Tracefs,
            ],
            flight_recorder_trigger,
        ),
        test("perf_script_reads_a_recording", WITH_PERF, perf_script),
        test(
            "perf_script_reads_a_recording_after_record_was_killed",
            WITH_PERF,
            perf_script_after_kill,
        ),
        test(
            "perf_kvm_stat_reads_a_recording",
            &[
                Requirement::Root,
                Requirement::Kvm,
                Requirement::ExitEvents,
                Requirement::Tracefs,
                Requirement::Perf,
            ],
            perf_kvm_stat,
        ),
        test("trace_reads_recordings_of_perf", WITH_PERF, perf_recordings),
    ]
}

/// Prints a recording with `trace`. Fails if the recording is incomplete.
fn trace_complete(file: &str, args: &[&str]) -> Result<FinishedProcess, Failed> {
    run_collector(&[&["trace", "--strict", "-i", file], args].concat())?.expect_code(0)
}

fn parse_lines(text: &str) -> Result<Vec<TraceLine>, Failed> {
    text.lines()
        .map(|line| {
            TraceLine::parse(line).ok_or_else(|| format!("not a line of a trace: `{line}`").into())
        })
        .collect()
}
