//! The options of `record`, and what they mean for its source of events.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::super::{
    event_stream::stream_options,
    number::parse_number,
    selection::{EventArgs, ReasonArgs, TargetArgs},
    size::{
        QUEUE_BYTES, parse_file_bytes, parse_memory_bytes, parse_queue_bytes, parse_ring_bytes,
    },
    stop::{OverheadArgs, StopArgs, parse_duration},
};
use crate::{
    source::LiveOptions,
    timing::{ExitTrigger, Selection},
    tracefs::{Format, Tracefs},
};

/// Write events to a perf.data file
///
/// The file contains each event as the kernel wrote it, and the event formats to decode it on
/// another machine. `stat`, `exits`, `trace` and `convert` read it with -i; so do `perf script`,
/// `perf kvm stat report` and `perf report`. If the collector is killed, the events of the last 0.2
/// seconds are missing, and more if the disk is too slow.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector record                               to kvm.data, until Ctrl-C
  kvm-collector record -d 10s -e kvm_exit,kvm_entry --vm web-1 -z
  kvm-collector record --max-size 1G --rotate 4      the last 4 GiB
  kvm-collector record --preempt -d 10s              for preempted time in `exits -i kvm.data`
  kvm-collector record --flight-recorder 10s --trigger 'exit > 1ms'")]
pub(in crate::cli) struct RecordArgs {
    #[command(flatten)]
    pub(super) events: EventArgs,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) reasons: ReasonArgs,
    #[command(flatten)]
    pub(super) stop: StopArgs,
    #[command(flatten)]
    pub(super) overhead: OverheadArgs,

    /// Also record sched:sched_switch, from which all reports with -i measure preempted time
    ///
    /// Adds an eBPF program to sched_switch, so every context switch on the host costs slightly
    /// more.
    #[arg(long, help_heading = "Selection")]
    pub(super) preempt: bool,

    /// Write to this file; - is stdout
    ///
    /// An existing file is renamed to FILE.old.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "kvm.data",
        help_heading = "Output"
    )]
    pub(super) output: PathBuf,

    /// Compress with zstd at this level, 1 to 22; level 1 if LEVEL is omitted
    #[arg(short = 'z', long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "1",
        require_equals = true, value_parser = parse_level, help_heading = "Output")]
    pub(super) compress: Option<i32>,

    /// Stop at this file size (100M, 2G); with --rotate, continue in a new file
    #[arg(long, value_name = "SIZE", value_parser = parse_file_bytes, help_heading = "Output")]
    pub(super) max_size: Option<u64>,

    /// Keep the last N files: FILE is the newest, FILE.1 the one before
    #[arg(long, value_name = "N", value_parser = parse_rotate, help_heading = "Output")]
    pub(super) rotate: Option<u32>,

    /// Keep the events of the last TIME in memory; write them at --trigger or SIGUSR1
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "max_size", help_heading = "Output")]
    pub(super) flight_recorder: Option<Duration>,

    /// Write when this condition holds: 'exit > 1ms' (time of an exit, excluding halted time)
    ///
    /// Writes at most twice per --flight-recorder time. Keeps the last 10 files, or the number given
    /// with --rotate.
    #[arg(long, value_name = "CONDITION", value_parser = ExitTrigger::parse, requires = "flight_recorder", help_heading = "Output")]
    pub(super) trigger: Option<Duration>,

    /// Maximum memory of the flight recorder; when it is full, the oldest events are dropped
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_memory_bytes, requires = "flight_recorder", help_heading = "Output")]
    pub(super) memory: u64,

    /// Size of the ring of each CPU, a power of two (64K, 4M) [default: 64M divided by the number of CPUs, at least 256K, at most 4M]
    #[arg(long, value_name = "SIZE", value_parser = parse_ring_bytes, help_heading = "Output")]
    pub(super) ring: Option<u32>,

    /// Maximum memory for events that wait to be written
    ///
    /// While a write blocks, the collector continues to read the rings until this memory is full.
    #[arg(long, value_name = "SIZE", default_value = QUEUE_BYTES, value_parser = parse_queue_bytes, help_heading = "Output")]
    pub(super) buffer: usize,

    /// Exit with code 3 if events were lost
    #[arg(long, help_heading = "Output")]
    pub(super) strict: bool,
}

fn parse_rotate(text: &str) -> Result<u32, String> {
    parse_number(text, 1..=1000)
}

fn parse_level(text: &str) -> Result<i32, String> {
    parse_number(text, 1..=22).map(u32::cast_signed)
}

impl RecordArgs {
    /// Returns the formats of the selected events and of those that other options need.
    pub(in crate::cli) fn live_events(&self, tracefs: &Tracefs) -> anyhow::Result<Vec<Format>> {
        self.events.formats_with(tracefs, &self.required_events())
    }

    /// Returns what is requested from the running kernel.
    pub(in crate::cli) fn live_options(
        &self,
        tracefs: &Tracefs,
        events: Vec<Format>,
        selection: Selection,
    ) -> anyhow::Result<LiveOptions> {
        stream_options(tracefs, events, selection, self.ring)
    }

    /// Returns the events that other options need even if they are not selected.
    pub(super) fn required_events(&self) -> Vec<&'static str> {
        let mut events = Vec::new();
        if self.trigger.is_some() {
            events.extend(["kvm:kvm_exit", "kvm:kvm_entry"]);
        }
        if self.preempt {
            events.push("sched:sched_switch");
        }
        events
    }
}
