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
    common::{Common, block_on},
    ending::duration,
    output::color,
    selection::{Target, format_of, open_tracefs},
    timing,
};
use crate::{
    model::{EventKind, VMEXIT},
    session::{
        self,
        top::{Controls, TopOutput, TopSource},
    },
    source::{Live, LiveOptions},
    tui::{self, App, Mailbox, Screen, Setup},
    view::TopReading,
};

/// Watch where VM exits go: VMs, their vCPUs, and the reasons, as in top
///
/// Enter goes into a row, Esc back out, ? shows the keys. Cost is time out of the guest without what was
/// idle: in the kernel, in the VMM's user space, and with --preempt being ready without running. Percentages
/// are shares of the vCPUs' time; busy% leaves idle time out on both sides.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector top                               all VMs, every second
  kvm-collector top --vm 'web-*' -I 500ms         these VMs, twice a second
  kvm-collector top --once -d 5s                  five seconds as text, and no more
  kvm-collector top --sort p99 --preempt          also what other threads take away
  kvm-collector top --kind mmio                   by address; also pio, msr, userspace, ...")]
pub(super) struct TopArgs {
    #[command(flatten)]
    target: Target,

    /// What is counted: vmexit (by reason), userspace, mmio, pio, msr, hypercall, cpuid, page-fault, or any
    /// kvm event's field (kvm_eoi.vector)
    #[arg(
        long,
        value_name = "KIND",
        default_value = VMEXIT,
        help_heading = "Selection"
    )]
    kind: String,

    /// Measure preemption: time a runnable vCPU thread waited for a CPU. Adds a program to sched_switch, so every
    /// context switch of the host costs slightly more
    #[arg(long, help_heading = "Selection")]
    preempt: bool,

    /// End after this long (10s, 1h); otherwise with q
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Duration")]
    duration: Option<Duration>,

    /// How often numbers are read (100ms, 1s); + and - change it
    #[arg(short = 'I', long, value_name = "TIME", default_value = "1s", value_parser = duration,
          help_heading = "Duration")]
    interval: Duration,

    /// Print what one interval (or --duration) brings as text, all rows of it, and end
    #[arg(long, help_heading = "Output")]
    once: bool,

    /// What comes first
    #[arg(
        long,
        value_name = "KEY",
        default_value = "cost",
        help_heading = "Output"
    )]
    sort: Sort,

    /// Room for so many rows of (thread, reason) in the kernel, at 2.5 KB each; by default 25 for each vCPU
    /// there is, and 4096 at least
    #[arg(long, value_name = "N", help_heading = "Output",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_rows: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// Exits per second
    Exits,
    /// Time out of the guest without idle
    Cost,
    /// The same, as a share of the vCPUs' time without idle
    Busy,
    /// Time out of the guest, with idle
    Out,
    /// Time in the guest
    Guest,
    /// Time in the kernel
    Kernel,
    /// Time in the VMM's user space
    Vmm,
    /// Time halted
    Halted,
    /// Time ready without running (with --preempt)
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
            Sort::Busy => Self::Busy,
            Sort::Out => Self::Out,
            Sort::Guest => Self::Guest,
            Sort::Kernel => Self::Kernel,
            Sort::Vmm => Self::Vmm,
            Sort::Halted => Self::Halted,
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
    fn begin(&self, common: Common) -> anyhow::Result<Live> {
        let tracefs = open_tracefs()?;
        let find = |system: &str, name: &str| format_of(&tracefs, system, name);
        let counted = match self.kind.as_str() {
            VMEXIT => None,
            name => Some(EventKind::from_name(name)?),
        };
        Ok(Live::start(LiveOptions {
            entry: find("kvm", "kvm_entry")?,
            timing: Some(timing::pairing(&find, counted, self.preempt)?),
            selection: self.target.of_running()?,
            sizes: timing::sizes(self.max_rows),
            logs_programs: common.kernel_log,
            ..LiveOptions::default()
        })?)
    }

    fn app(&self, common: Common, size: (u16, u16)) -> App {
        let setup = Setup {
            kind: self.kind.to_ascii_lowercase(),
            preempt_watched: self.preempt,
            color: color(common.color, true),
            interactive: !self.once,
        };
        App::new(setup, self.sort.into(), self.interval, size)
    }
}

pub(super) fn run(args: TopArgs, common: Common) -> anyhow::Result<ExitCode> {
    if matches!(args.sort, Sort::Preempted) && !args.preempt {
        bail!("--sort preempted sorts by what --preempt tells apart: give both");
    }
    if args.once {
        return block_on(once(args, common));
    }
    if !io::stdout().is_terminal() {
        bail!(
            "top needs a terminal on stdout: `kvm-collector top --once` prints one picture as text, `kvm-collector exits -I 1s` goes on printing"
        );
    }
    let live = args.begin(common)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mailbox = Arc::new(Mailbox::default());
    let controls = Controls::default();
    let source = {
        let _runtime = runtime.enter();
        let output = ToScreen(Arc::clone(&mailbox));
        let (interval, duration) = (args.interval, args.duration);
        TopSource::new(live, interval, duration, controls.clone(), output)?
    };
    // It listens to signals before the terminal is waited for.
    let source = thread::Builder::new()
        .name("source".into())
        .spawn(move || runtime.block_on(source.run()))?;
    let mut screen = Screen::take().context("cannot use the terminal")?;
    let mut app = args.app(common, screen.size()?);
    tui::listen(Arc::clone(&mailbox))?;
    let shown = tui::run(&mut app, &mut screen, &mailbox, &mut |control| {
        controls.send(control);
    });
    // The terminal first: detaching takes a moment.
    drop(screen);
    controls.end();
    let read = source.join().unwrap_or_else(|_| {
        // What it was has been said by then.
        Err(anyhow::anyhow!(
            "the thread that reads from the kernel failed"
        ))
    });
    read?;
    shown.context("cannot write to the terminal")?;
    Ok(ExitCode::SUCCESS)
}

async fn once(args: TopArgs, common: Common) -> anyhow::Result<ExitCode> {
    let mut live = args.begin(common)?;
    let duration = args.duration.unwrap_or(args.interval);
    let reading = session::top::once(&mut live, duration).await?;
    let mut app = args.app(common, (0, 0));
    app.take(reading);
    let mut out = super::output::open(None)?;
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col);
    tui::print(&mut app, if columns == 0 { 120 } else { columns }, &mut out)?;
    io::Write::flush(&mut out)?;
    Ok(ExitCode::SUCCESS)
}

/// Passes readings on to the screen. Says that it is over when it goes, also when it goes by a panic.
struct ToScreen(Arc<Mailbox>);

impl TopOutput for ToScreen {
    fn reading(&mut self, reading: Box<TopReading>) {
        self.0.add_readings(|unread| unread.add_reading(reading));
    }

    fn histograms(&mut self, reading: Box<TopReading>) {
        self.0.add_readings(|unread| unread.add_histograms(reading));
    }
}

impl Drop for ToScreen {
    fn drop(&mut self) {
        // The screen may be waiting for a terminal that takes nothing.
        tui::waits_no_more();
        self.0.end();
    }
}
