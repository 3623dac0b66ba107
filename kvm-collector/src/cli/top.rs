//! `kvm-collector top`.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::{
    global::{GlobalOptions, block_on},
    locale,
    output::use_color,
    selection::TargetArgs,
    stop::parse_duration,
    timing,
    tracefs::{find_format, open_tracefs},
    usage::bail_usage,
};
use crate::{
    model::{EventKind, VMEXIT},
    session::{
        self,
        top::{ControlQueue, TopOutput, TopReader},
    },
    source::{Live, LiveOptions},
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
  kvm-collector top --kind mmio                   by address; also pio, msr, userspace, ...")]
pub(super) struct TopArgs {
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
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = "Duration")]
    duration: Option<Duration>,

    /// Time between two updates (100ms, 1s); the keys + and - change it
    #[arg(short = 'I', long, value_name = "TIME", default_value = "1s", value_parser = parse_duration,
          help_heading = "Duration")]
    interval: Duration,

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
    #[arg(long, value_name = "N", help_heading = "Output",
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

impl TopArgs {
    fn start(&self, global: GlobalOptions) -> anyhow::Result<Live> {
        let tracefs = open_tracefs()?;
        let find = |system: &str, name: &str| find_format(&tracefs, system, name);
        let counted = match self.kind.as_str() {
            VMEXIT => None,
            name => Some(EventKind::from_name(name)?),
        };
        Ok(Live::start(LiveOptions {
            entry: find("kvm", "kvm_entry")?,
            timing: Some(timing::timing_request(&find, counted, self.preempt)?),
            selection: self.target.for_running_kernel()?,
            sizes: timing::map_sizes(self.max_rows),
            logs_programs: global.ebpf_log,
            ..LiveOptions::default()
        })?)
    }

    fn app(&self, global: GlobalOptions, size: (u16, u16)) -> App {
        let setup = Setup {
            kind: self.kind.to_ascii_lowercase(),
            preempt_watched: self.preempt,
            color: use_color(global.color, true),
            unicode: locale::is_utf8(),
            recording: None,
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
        return block_on(run_once(args, global));
    }
    if !io::stdout().is_terminal() {
        bail!(
            "stdout is not a terminal: use `kvm-collector top --once` to print one interval as text, or `kvm-collector exits -I 1s` to print one report per second"
        );
    }
    let live = args.start(global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mailbox = Arc::new(Mailbox::default());
    let controls = ControlQueue::default();
    let source = {
        let _runtime = runtime.enter();
        let output = ScreenOutput(Arc::clone(&mailbox));
        let (interval, duration) = (args.interval, args.duration);
        TopReader::new(live, interval, duration, controls.clone(), output)?
    };
    // Install the signal handlers before waiting for the terminal.
    let source = thread::Builder::new()
        .name("source".into())
        .spawn(move || runtime.block_on(source.run()))?;
    let mut screen = Screen::open().context("cannot use the terminal")?;
    let mut app = args.app(global, screen.size()?);
    tui::start_input_thread(Arc::clone(&mailbox))?;
    let screen_result = tui::run(&mut app, &mut screen, &mailbox, &mut |control| {
        controls.send(control);
    });
    // Restore the terminal first, because detaching the programs takes some time.
    drop(screen);
    controls.end();
    let reader_result = source.join().unwrap_or_else(|_| {
        // The panic hook has printed the message.
        Err(anyhow::anyhow!(
            "the thread that reads from the kernel panicked"
        ))
    });
    reader_result?;
    screen_result.context("cannot write to the terminal")?;
    Ok(ExitCode::SUCCESS)
}

async fn run_once(args: TopArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let mut live = args.start(global)?;
    let duration = args.duration.unwrap_or(args.interval);
    let reading = session::top::read_once(&mut live, duration).await?;
    let mut app = args.app(global, (0, 0));
    app.add_reading(reading);
    let mut out = super::output::open_output(None)?;
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col);
    tui::print(&mut app, if columns == 0 { 120 } else { columns }, &mut out)?;
    io::Write::flush(&mut out)?;
    Ok(ExitCode::SUCCESS)
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
}

impl Drop for ScreenOutput {
    fn drop(&mut self) {
        // The screen may be waiting for a terminal that accepts no output.
        tui::stop_waiting();
        self.0.end();
    }
}
