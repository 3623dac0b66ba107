//! `kvm-collector top`.

use std::{
    collections::HashSet,
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep},
};

use super::{
    Common,
    ending::{LOOK_AROUND, duration},
    output::color,
    selection::{Target, format_of},
    signals, timing,
};
use crate::{
    model::{Kind, VMEXIT},
    source::{Live, LiveOptions},
    tracefs::Tracefs,
    tui::{self, App, Control, Message, Screen, Setup},
    view::{Scope, TopReading},
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

    /// Tell apart the time in which a vCPU's thread was ready and did not run (watches sched_switch: every
    /// context switch of the host pays for it)
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
        let tracefs = Tracefs::find_or_mount()?;
        let find = |system: &str, name: &str| format_of(&tracefs, system, name);
        let counted = match self.kind.as_str() {
            VMEXIT => None,
            name => Some(Kind::named(name)?),
        };
        Ok(Live::begin(LiveOptions {
            entry: find("kvm", "kvm_entry")?,
            pairing: Some(timing::pairing(&find, counted, self.preempt)?),
            filter: self.target.filter()?,
            sizes: timing::sizes(self.max_rows),
            log: common.kernel_log,
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
        return super::asynchronously(once(args, common));
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
    let (to_screen, messages) = mpsc::channel();
    let (to_source, controls) = unbounded_channel();
    let source = {
        let _runtime = runtime.enter();
        Source::new(live, &args, controls, End(to_screen.clone()))?
    };
    // It listens to signals before the terminal is waited for.
    let source = thread::Builder::new()
        .name("source".into())
        .spawn(move || runtime.block_on(source.run()))?;
    let mut screen = Screen::take().context("cannot use the terminal")?;
    let mut app = args.app(common, screen.size()?);
    tui::listen(to_screen)?;
    let shown = tui::run(&mut app, &mut screen, &messages, &mut |control| {
        // A source that has ended has said so.
        let _ = to_source.send(control);
    });
    // The terminal first: detaching takes a moment.
    drop(screen);
    drop(to_source);
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
    let [mut interrupt, mut terminate] = signals::of_end()?;
    let mut look_around = every(LOOK_AROUND);
    let end = sleep(args.duration.unwrap_or(args.interval));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = look_around.tick() => live.look_around()?,
        }
    }
    live.end()?;
    let mut app = args.app(common, (0, 0));
    app.take(read(&mut live, Scope::default(), &mut HashSet::new())?);
    let mut out = super::output::open(None)?;
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col);
    tui::print(&mut app, if columns == 0 { 120 } else { columns }, &mut out)?;
    io::Write::flush(&mut out)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads all exits, with the histograms of what is looked at.
fn read(
    live: &mut Live,
    scope: Scope,
    named: &mut HashSet<kvm_ebpf_common::Key>,
) -> anyhow::Result<TopReading> {
    let pairing = live.options().pairing.as_ref();
    let counted = pairing.and_then(|it| it.counted.as_ref());
    let mut reading = TopReading::new(scope, counted.map(|it| &it.kind));
    let rest = live.exits(&mut |exits| reading.add(exits))?;
    let mut reading = reading.finish(rest);
    let vm_name = |tgid| live.names().get(tgid).to_owned();
    reading.name(
        named,
        &timing::key_names(live.options().pairing.as_ref()),
        &vm_name,
    );
    Ok(reading)
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// Says that it is over when it goes, also when it goes by a panic.
struct End(mpsc::Sender<Message>);

impl Drop for End {
    fn drop(&mut self) {
        // The screen may be waiting for a terminal that takes nothing.
        tui::waits_no_more();
        // Or have ended first.
        let _ = self.0.send(Message::End);
    }
}

/// What reads from the kernel, in a thread of its own: keys never wait for it.
struct Source {
    live: Live,
    controls: UnboundedReceiver<Control>,
    screen: End,
    interval: Interval,
    deadline: Option<Instant>,
    scope: Scope,
    paused: bool,
    named: HashSet<kvm_ebpf_common::Key>,
    signals: [tokio::signal::unix::Signal; 3],
}

impl Source {
    fn new(
        live: Live,
        args: &TopArgs,
        controls: UnboundedReceiver<Control>,
        screen: End,
    ) -> io::Result<Self> {
        Ok(Self {
            live,
            controls,
            screen,
            interval: every(args.interval),
            // A time too long for the clock is no limit.
            deadline: args.duration.and_then(|it| Instant::now().checked_add(it)),
            scope: Scope::default(),
            paused: false,
            named: HashSet::new(),
            // Before the terminal is taken: from here on a signal is an end that gives it back.
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
        })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let mut look_around = every(LOOK_AROUND);
        loop {
            let [interrupt, terminate, hangup] = &mut self.signals;
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                () = super::ending::until(self.deadline) => return Ok(()),
                control = self.controls.recv() => match control {
                    Some(control) => self.control(control)?,
                    None => return Ok(()),
                },
                _ = self.interval.tick(), if !self.paused => self.show(Message::Reading)?,
                _ = look_around.tick() => self.live.look_around()?,
            }
        }
    }

    fn control(&mut self, control: Control) -> anyhow::Result<()> {
        match control {
            Control::Look(scope) => {
                self.scope = scope;
                self.show(Message::Histograms)
            }
            Control::Interval(interval) => {
                self.interval = every(interval);
                Ok(())
            }
            Control::Pause(paused) => {
                self.paused = paused;
                if paused {
                    return Ok(());
                }
                self.interval.reset();
                self.show(Message::Reading)
            }
        }
    }

    fn show(&mut self, message: fn(Box<TopReading>) -> Message) -> anyhow::Result<()> {
        let reading = read(&mut self.live, self.scope, &mut self.named)?;
        // The screen may have ended; then the next control says so.
        let _ = self.screen.0.send(message(Box::new(reading)));
        Ok(())
    }
}
