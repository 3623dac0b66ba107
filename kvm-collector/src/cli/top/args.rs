//! Arguments of `top`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    cli::{
        event_formats::EventFormats,
        global::GlobalOptions,
        locale,
        no_match::{Request, Requested},
        output::use_color,
        sandbox::RecordingFiles,
        selection::TargetArgs,
        stop::{check_live_interval, parse_duration, parse_interval, saturating_ns},
        time_range::RangeArgs,
        timing,
        tracefs::open_tracefs_with_kvm,
        usage::bail_usage,
    },
    model::{EventKind, UnknownKind, VMEXIT},
    source::{Live, LiveOptions, PlaybackOptions, Recording, TimeLimits},
    timing::{ReplayOptions, Selection, TimingRequest, vcpus_are_named},
    tracefs::Tracefs,
    tui::{self, App, Setup},
};

/// Show VM exits live by VM, vCPU and exit reason, like top
///
/// Enter opens a row, Esc goes back, ? shows all keys. Cost is time outside the guest without idle
/// time: in the kernel, in the VMM and, if measured (--preempt), preempted. overhead% is cost / (cost + guest
/// time). The other percentages are shares of the vCPUs' time.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector top                               all VMs, every second
  kvm-collector top --vm 'web-*' -I 500ms         these VMs, twice a second
  kvm-collector top --once -d 5s                  print five seconds as text and exit
  kvm-collector top --sort p99 --preempt          also show preempted time
  kvm-collector top --kind mmio                   by address; also pio, msr, userspace, ...
  kvm-collector top -i perf.data                  play a recording; Space pauses
  kvm-collector top -i perf.data --once --from 10s --until 12s
                                                  print a part of a recording")]
pub(in crate::cli) struct TopArgs {
    /// Play a recording instead of reading the running kernel; - is stdin
    ///
    /// Shows the intervals of the recording (-I) at the pace at which they passed. With --once,
    /// prints the whole recording. The file can come from `kvm-collector record` or `perf record`.
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with = "no_wait",
        help_heading = "Selection"
    )]
    pub(in crate::cli) input: Option<PathBuf>,

    #[command(flatten)]
    pub(super) target: TargetArgs,

    /// Count this kind of event
    ///
    /// Kinds: vmexit (by exit reason), userspace, mmio, pio, msr, hypercall, cpuid, page-fault, sysreg
    /// (arm64), or a field of any kvm event (kvm_eoi.vector).
    #[arg(
        long,
        value_name = "KIND",
        default_value = VMEXIT,
        help_heading = "Selection"
    )]
    pub(super) kind: String,

    /// Measure preemption: the time a runnable vCPU thread waits for a CPU
    ///
    /// Adds an eBPF program to sched_switch, so every context switch on the host costs slightly
    /// more. Of a recording with sched_switch, this time is always measured; with this option, a
    /// recording without it is an error.
    #[arg(long, help_heading = "Selection")]
    pub(super) preempt: bool,

    /// Stop after this time (10s, 1h) [default: until q]
    ///
    /// In a recording, the time starts at its first event, or at --from.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = "Duration")]
    pub(super) duration: Option<Duration>,

    /// Time between two updates (100ms, 5s) [default: 1s]; the keys + and - change it
    #[arg(short = 'I', long, value_name = "TIME", value_parser = parse_interval, help_heading = "Duration")]
    pub(super) interval: Option<Duration>,

    #[command(flatten)]
    pub(super) range: RangeArgs,

    /// Play a recording N times as fast
    #[arg(long, value_name = "N", default_value = "1", requires = "input", conflicts_with = "once",
          value_parser = parse_speed, help_heading = "Duration")]
    pub(super) speed: f64,

    /// Print all rows of one second, or of --duration, as text and exit
    #[arg(long, help_heading = "Output")]
    pub(super) once: bool,

    /// Sort rows by this key, largest first
    #[arg(
        long,
        value_name = "KEY",
        default_value = "cost",
        help_heading = "Output"
    )]
    pub(super) sort: Sort,

    /// Maximum number of (thread, reason) rows [default: 25 per vCPU, at least 4096]
    ///
    /// A row takes 2.5 KB of kernel memory.
    #[arg(long, value_name = "N", help_heading = "Output", conflicts_with = "input",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) max_rows: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Sort {
    /// Exits per second
    Exits,
    /// Time outside the guest without idle time
    Cost,
    /// cost / (cost + guest time)
    Overhead,
    /// Time outside the guest, including idle
    Out,
    /// Time in the guest
    Guest,
    /// Time in the kernel
    Kernel,
    /// Time in the VMM's user space, except during halts
    Vmm,
    /// Time halted, and the VMM's part of halts
    Idle,
    /// Time preempted (with --preempt, or in a recording with sched_switch)
    Preempted,
    /// Mean time of an exit
    Mean,
    /// Median time of an exit
    P50,
    /// 99th percentile of an exit's time
    P99,
    /// Longest exit
    Max,
    /// Name
    Name,
}

impl From<Sort> for tui::Sort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Exits => Self::Exits,
            Sort::Cost => Self::Cost,
            Sort::Overhead => Self::Overhead,
            Sort::Out => Self::Out,
            Sort::Guest => Self::Guest,
            Sort::Kernel => Self::Kernel,
            Sort::Vmm => Self::Vmm,
            Sort::Idle => Self::Idle,
            Sort::Preempted => Self::Preempted,
            Sort::Mean => Self::Mean,
            Sort::P50 => Self::P50,
            Sort::P99 => Self::P99,
            Sort::Max => Self::Max,
            Sort::Name => Self::Name,
        }
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if speed > 0.0 && f64::is_finite(speed) => Ok(speed),
        _ => Err("the speed must be a number greater than 0, such as 10 or 0.5".into()),
    }
}

/// A recording that is opened, and what is read of it.
pub(super) struct OpenedRecording {
    pub(super) recording: Recording,
    pub(super) playback: PlaybackOptions,
    pub(super) replay: ReplayOptions,
}

/// Time between two updates by default, and length of the measurement of `--once`.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the numbers on the screen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// Preempted time is measured.
    preempted: bool,
    vcpus_from_thread_names: bool,
}

impl Measured {
    /// Describes exits that are timed as requested.
    pub(super) fn new(timing: &TimingRequest) -> Self {
        Self {
            preempted: timing.switch.is_some(),
            vcpus_from_thread_names: vcpus_are_named(timing.exit.iter().chain(&timing.entry)),
        }
    }
}

impl TopArgs {
    /// Checks that every option has an effect.
    ///
    /// # Errors
    /// When one has none.
    pub(super) fn check_options(&self) -> anyhow::Result<()> {
        if matches!(self.sort, Sort::Preempted) && !self.preempt && self.input.is_none() {
            bail_usage!("--sort preempted needs --preempt: give both");
        }
        self.range.check_has_input(self.input.is_some())?;
        if self.once && self.interval.is_some() {
            bail_usage!(
                "-I cannot be used with --once, which prints one report: use -d for the time that it covers"
            );
        }
        Ok(())
    }

    /// Returns the time between two updates.
    pub(super) fn interval(&self) -> Duration {
        self.interval.unwrap_or(DEFAULT_INTERVAL)
    }

    fn timing_request(&self, formats: &EventFormats<'_>) -> anyhow::Result<TimingRequest> {
        let is_preempt_required = self.preempt || matches!(self.sort, Sort::Preempted);
        timing::timing_request(formats, self.counted_kind()?, is_preempt_required)
    }

    /// Returns the kind of event to count; `None` for VM exits.
    pub(super) fn counted_kind(&self) -> Result<Option<EventKind>, UnknownKind> {
        match self.kind.as_str() {
            VMEXIT => Ok(None),
            name => EventKind::from_name(name).map(Some),
        }
    }

    /// Returns what was requested, to say why there is none.
    pub(super) fn no_match_request(&self) -> Result<Request<'_>, UnknownKind> {
        Ok(Request {
            requested: match self.counted_kind()? {
                None => Requested::Exits,
                Some(kind) => Requested::Kind(kind),
            },
            target: &self.target,
            reasons: None,
            events: None,
        })
    }

    /// Returns the recording.
    pub(in crate::cli) fn files(&self) -> RecordingFiles {
        RecordingFiles {
            inputs: self.input.iter().cloned().collect(),
            outputs: Vec::new(),
        }
    }

    /// Starts to count the exits of the running kernel.
    pub(super) fn start(&self, global: GlobalOptions) -> anyhow::Result<Live> {
        check_live_interval(self.interval)?;
        let tracefs = open_tracefs_with_kvm(self.target.no_wait)?;
        let selection = self.target.for_running_kernel()?;
        Ok(Live::start(LiveOptions {
            logs_programs: global.ebpf_log,
            ..self.live_options(&tracefs, selection)?
        })?)
    }

    /// Returns what is requested from the running kernel.
    pub(in crate::cli) fn live_options(
        &self,
        tracefs: &Tracefs,
        selection: Selection,
    ) -> anyhow::Result<LiveOptions> {
        let formats = EventFormats::Kernel(tracefs);
        Ok(LiveOptions {
            entry: formats.find("kvm", "kvm_entry")?,
            timing: Some(self.timing_request(&formats)?),
            selection,
            sizes: timing::map_sizes(self.max_rows),
            ..LiveOptions::default()
        })
    }

    /// Opens the recording.
    pub(super) fn open(&self, path: &Path) -> anyhow::Result<OpenedRecording> {
        let mut recording = Recording::open(path)?;
        let request = |formats: &EventFormats<'_>| self.timing_request(formats);
        let (selected, mut replay) = timing::replay_options(recording.formats(), path, request)?;
        recording.select_events(&selected);
        replay.is_sampled = recording.is_sampled(&selected);
        let interval = (!self.once).then_some(self.interval());
        let limits = TimeLimits {
            duration_ns: self.duration.map(saturating_ns),
            interval_ns: interval.map(saturating_ns),
            ..TimeLimits::default()
        };
        let playback = PlaybackOptions {
            selection: self.target.for_recording()?,
            limits: self.range.apply(limits, recording.metadata(), path)?,
            without_raw: false,
        };
        Ok(OpenedRecording {
            recording,
            playback,
            replay,
        })
    }

    /// Creates the state of the screen.
    pub(super) fn app(&self, global: GlobalOptions, measured: Measured, size: (u16, u16)) -> App {
        let recording = self.input.as_deref().map(|path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            match name.to_string_lossy() {
                name if name == "-" => "stdin".to_owned(),
                name => name.into_owned(),
            }
        });
        let selection: Vec<_> = self
            .target
            .options()
            .into_iter()
            .map(|it| it.text)
            .collect();
        let setup = Setup {
            kind: self.kind.to_ascii_lowercase(),
            preempt_watched: measured.preempted,
            color: use_color(global.color, true),
            unicode: locale::is_utf8(),
            recording,
            selection: selection.join(" "),
            vcpus_from_thread_names: measured.vcpus_from_thread_names,
            interactive: !self.once,
        };
        App::new(setup, self.sort.into(), self.interval(), size)
    }
}
