//! `kvm-collector top`.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::runtime::{Builder, Runtime};

use super::{
    global::{GlobalOptions, block_on},
    locale,
    output::use_color,
    recording,
    selection::TargetArgs,
    stop::{parse_duration, saturating_ns},
    timing::{self, FindFormat},
    tracefs::{find_format, open_tracefs},
    usage::bail_usage,
};
use crate::{
    model::{EventKind, VMEXIT},
    session::{
        self,
        top::{ControlQueue, TopOutput, TopPlayer, TopReader},
    },
    source::{Live, LiveOptions, PlaybackOptions, Recording, RecordingSummary, TimeLimits},
    timing::{ReplayOptions, TimingRequest},
    tui::{self, App, Mailbox, Screen, Setup},
    view::TopReading,
};

/// Show VM exits live by VM, vCPU and exit reason, like top
///
/// Enter opens a row, Esc goes back, ? shows all keys. Cost is time outside the guest without idle
/// time: in the kernel, in the VMM and, with --preempt, preempted. overhead% is cost / (cost + guest
/// time). The other percentages are shares of the vCPUs' time.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector top                               all VMs, every second
  kvm-collector top --vm 'web-*' -I 500ms         these VMs, twice a second
  kvm-collector top --once -d 5s                  print five seconds as text and exit
  kvm-collector top --sort p99 --preempt          also show preempted time
  kvm-collector top --kind mmio                   by address; also pio, msr, userspace, ...
  kvm-collector top -i perf.data                  play a recording; Space pauses")]
pub(super) struct TopArgs {
    /// Play a recording instead of reading the running kernel; - is stdin
    ///
    /// Shows the intervals of the recording (-I) at the pace at which they passed. With --once,
    /// prints the whole recording. The file can come from `kvm-collector record` or `perf record`.
    #[arg(short, long, value_name = "FILE", help_heading = "Selection")]
    input: Option<PathBuf>,

    #[command(flatten)]
    target: TargetArgs,

    /// Count this kind of event
    ///
    /// Kinds: vmexit (by exit reason), userspace, mmio, pio, msr, hypercall, cpuid, page-fault, or a
    /// field of any kvm event (kvm_eoi.vector).
    #[arg(
        long,
        value_name = "KIND",
        default_value = VMEXIT,
        help_heading = "Selection"
    )]
    kind: String,

    /// Measure preemption: the time a runnable vCPU thread waits for a CPU
    ///
    /// Adds an eBPF program to sched_switch, so every context switch on the host costs slightly
    /// more.
    #[arg(long, help_heading = "Selection")]
    preempt: bool,

    /// Stop after this time (10s, 1h) [default: until q]
    ///
    /// In a recording, the time starts at the first selected event.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = "Duration")]
    duration: Option<Duration>,

    /// Time between two updates (100ms, 1s); the keys + and - change it
    #[arg(short = 'I', long, value_name = "TIME", default_value = "1s", value_parser = parse_duration,
          help_heading = "Duration")]
    interval: Duration,

    /// Play a recording N times as fast
    #[arg(long, value_name = "N", default_value = "1", requires = "input", conflicts_with = "once",
          value_parser = parse_speed, help_heading = "Duration")]
    speed: f64,

    /// Print all rows of one interval (or --duration) as text and exit
    #[arg(long, help_heading = "Output")]
    once: bool,

    /// Sort rows by this key, largest first
    #[arg(
        long,
        value_name = "KEY",
        default_value = "cost",
        help_heading = "Output"
    )]
    sort: Sort,

    /// Maximum number of (thread, reason) rows [default: 25 per vCPU, at least 4096]
    ///
    /// A row takes 2.5 KB of kernel memory.
    #[arg(long, value_name = "N", help_heading = "Output", conflicts_with = "input",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_rows: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
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
    /// Time preempted (with --preempt)
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

/// A recording that is opened, and what is read of it.
struct OpenedRecording {
    recording: Recording,
    playback: PlaybackOptions,
    replay: ReplayOptions,
}

impl TopArgs {
    fn timing_request(&self, find: &FindFormat<'_>) -> anyhow::Result<TimingRequest> {
        let counted = match self.kind.as_str() {
            VMEXIT => None,
            name => Some(EventKind::from_name(name)?),
        };
        timing::timing_request(find, counted, self.preempt)
    }

    fn start(&self, global: GlobalOptions) -> anyhow::Result<Live> {
        let tracefs = open_tracefs()?;
        let find = |system: &str, name: &str| find_format(&tracefs, system, name);
        Ok(Live::start(LiveOptions {
            entry: find("kvm", "kvm_entry")?,
            timing: Some(self.timing_request(&find)?),
            selection: self.target.for_running_kernel()?,
            sizes: timing::map_sizes(self.max_rows),
            logs_programs: global.ebpf_log,
            ..LiveOptions::default()
        })?)
    }

    fn open(&self, path: &Path) -> anyhow::Result<OpenedRecording> {
        let mut recording = Recording::open(path)?;
        let request = |find: &FindFormat<'_>| self.timing_request(find);
        let (selected, mut replay) = timing::replay_options(recording.formats(), path, request)?;
        recording.select_events(&selected);
        replay.is_sampled = recording.is_sampled(&selected);
        let interval = (!self.once).then_some(self.interval);
        let playback = PlaybackOptions {
            selection: self.target.for_recording()?,
            limits: TimeLimits {
                duration_ns: self.duration.map(saturating_ns),
                interval_ns: interval.map(saturating_ns),
            },
            without_raw: false,
        };
        Ok(OpenedRecording {
            recording,
            playback,
            replay,
        })
    }

    fn app(&self, global: GlobalOptions, size: (u16, u16)) -> App {
        let recording = self.input.as_deref().map(|path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            match name.to_string_lossy() {
                name if name == "-" => "stdin".to_owned(),
                name => name.into_owned(),
            }
        });
        let setup = Setup {
            kind: self.kind.to_ascii_lowercase(),
            preempt_watched: self.preempt,
            color: use_color(global.color, true),
            unicode: locale::is_utf8(),
            recording,
            interactive: !self.once,
        };
        App::new(setup, self.sort.into(), self.interval, size)
    }
}

pub(super) fn run(args: TopArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    if matches!(args.sort, Sort::Preempted) && !args.preempt {
        bail_usage!("--sort preempted needs --preempt: give both");
    }
    if args.once {
        return match &args.input {
            Some(path) => print_recording(&args, path, global),
            None => block_on(print_running_kernel(args, global)),
        };
    }
    if !io::stdout().is_terminal() {
        bail!(
            "stdout is not a terminal: use `kvm-collector top --once` to print one interval as text, or `kvm-collector exits -I 1s` to print one report per second"
        );
    }
    match &args.input {
        Some(path) => play_recording(&args, path, global),
        None => show_running_kernel(&args, global),
    }
}

fn show_running_kernel(args: &TopArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let live = args.start(global)?;
    let (interval, duration) = (args.interval, args.duration);
    show(args, global, move |runtime, controls, output| {
        let _runtime = runtime.enter();
        let reader = TopReader::new(live, interval, duration, controls, output)?;
        Ok(move |runtime: Runtime| runtime.block_on(reader.run()))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn play_recording(args: &TopArgs, path: &Path, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let OpenedRecording {
        recording,
        playback,
        replay,
    } = args.open(path)?;
    let pace = Duration::try_from_secs_f64(args.interval.as_secs_f64() / args.speed);
    let pace = pace.unwrap_or(Duration::MAX);
    let (target, file) = (args.target.clone(), path.to_owned());
    let summary = show(args, global, move |runtime, controls, output| {
        let _runtime = runtime.enter();
        let player = TopPlayer::new(pace, controls, output)?;
        let check =
            move |summary: &RecordingSummary| target.check_all_seen(&summary.processes, &file);
        Ok(move |runtime: Runtime| player.run(&runtime, recording, &playback, replay, check))
    })?;
    // Not earlier: the screen would hide the warning.
    if let Some(summary) = summary {
        recording::warn_if_damaged(&summary, path);
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the screen until the user quits or its source ends.
///
/// `prepare` returns the source of readings, which runs in a thread of its own.
fn show<T: Send + 'static, S>(
    args: &TopArgs,
    global: GlobalOptions,
    prepare: impl FnOnce(&Runtime, ControlQueue, ScreenOutput) -> io::Result<S>,
) -> anyhow::Result<T>
where
    S: FnOnce(Runtime) -> anyhow::Result<T> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mailbox = Arc::new(Mailbox::default());
    let controls = ControlQueue::default();
    // Install the signal handlers before waiting for the terminal.
    let output = ScreenOutput(Arc::clone(&mailbox));
    let source = prepare(&runtime, controls.clone(), output)?;
    let source: JoinHandle<anyhow::Result<T>> = thread::Builder::new()
        .name("source".into())
        .spawn(move || source(runtime))?;
    let mut screen = Screen::open().context("cannot use the terminal")?;
    let mut app = args.app(global, screen.size()?);
    tui::start_input_thread(Arc::clone(&mailbox))?;
    let screen_result = tui::run(&mut app, &mut screen, &mailbox, &mut |control| {
        controls.send(control);
    });
    // Restore the terminal first, because detaching the programs takes some time.
    drop(screen);
    controls.end();
    let source_result = source.join().unwrap_or_else(|_| {
        // The panic hook has printed the message.
        Err(anyhow::anyhow!("the thread that reads exits panicked"))
    });
    let result = source_result?;
    screen_result.context("cannot write to the terminal")?;
    Ok(result)
}

async fn print_running_kernel(args: TopArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let mut live = args.start(global)?;
    let duration = args.duration.unwrap_or(args.interval);
    let reading = session::top::read_once(&mut live, duration).await?;
    print(&args, global, reading)
}

fn print_recording(args: &TopArgs, path: &Path, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let OpenedRecording {
        recording,
        playback,
        replay,
    } = args.open(path)?;
    let shows_progress = !global.quiet;
    let (reading, summary) =
        session::top::read_recording_once(recording, &playback, replay, shows_progress)?;
    recording::report_end(&summary, &args.target, path)?;
    print(args, global, reading)
}

/// Prints a reading as text.
fn print(args: &TopArgs, global: GlobalOptions, reading: TopReading) -> anyhow::Result<ExitCode> {
    let mut app = args.app(global, (0, 0));
    app.add_reading(reading);
    let mut out = super::output::open_output(None)?;
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col);
    tui::print(&mut app, if columns == 0 { 120 } else { columns }, &mut out)?;
    io::Write::flush(&mut out)?;
    Ok(ExitCode::SUCCESS)
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if speed > 0.0 && f64::is_finite(speed) => Ok(speed),
        _ => Err("the speed must be a number greater than 0, such as 10 or 0.5".into()),
    }
}

/// Sends readings to the screen. Ends the screen when dropped, also after a panic.
struct ScreenOutput(Arc<Mailbox>);

impl TopOutput for ScreenOutput {
    fn send_reading(&mut self, reading: Box<TopReading>) {
        self.0.add_readings(|unread| unread.add_reading(reading));
    }

    fn send_histograms(&mut self, reading: Box<TopReading>) {
        self.0.add_readings(|unread| unread.add_histograms(reading));
    }

    fn send_end(&mut self) {
        self.0.end_source();
    }
}

impl Drop for ScreenOutput {
    fn drop(&mut self) {
        // The screen may be waiting for a terminal that accepts no output.
        tui::stop_waiting();
        self.0.end();
    }
}
