//! `kvm-collector top`.

mod args;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use super::{
    global::{GlobalOptions, block_on},
    inputs::Inputs,
    named_output::open_stdout,
    no_match::{self, RecordingSelection},
    origin,
    output::stdout_width,
    recording, sandbox,
    text_heading::{TextHeading, what_is_counted},
    usage::bail_usage,
};
use crate::{
    format::text::TextStyle,
    host::clock,
    session::{
        self, ReportPeriod,
        top::{ControlQueue, TopOutput, TopPlayer, TopReader},
    },
    source::{Live, RecordingSummary},
    tui::{self, Mailbox, Screen},
    view::{ReportOrigin, TopReading},
};
pub(super) use args::TopArgs;
use args::{Measured, OpenedRecording};

pub(super) fn run(mut args: TopArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    args.check_options()?;
    args.input = Inputs::find_one(args.input.as_slice(), "top")?;
    // Before the terminal, so that an unknown kind is always reported.
    args.counted_kind()?;
    if args.once {
        return match &args.input {
            Some(path) => print_recording(&args, path, global),
            None => block_on(print_running_kernel(args, global)),
        };
    }
    if !io::stdout().is_terminal() {
        bail_usage!(
            "stdout is not a terminal: use `kvm-collector top --once` to print one interval as text, or `kvm-collector exits -I 1s` to print one report per second"
        );
    }
    match &args.input {
        Some(path) => play_recording(&args, path, global),
        None => show_running_kernel(&args, global),
    }
}

fn measured(live: &Live) -> Measured {
    let timing = live.options().timing.as_ref();
    timing.map_or(Measured::default(), Measured::new)
}

fn show_running_kernel(args: &TopArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let mut live = args.start(global)?;
    sandbox::enter_to_measure(&mut live, Vec::new(), false, global);
    let (interval, duration) = (args.interval(), args.duration);
    let measured = measured(&live);
    show(args, global, measured, move |runtime, controls, output| {
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
    let pace = Duration::try_from_secs_f64(args.interval().as_secs_f64() / args.speed);
    let pace = pace.unwrap_or(Duration::MAX);
    let (target, range, file) = (args.target.clone(), args.range.clone(), path.to_owned());
    let wall_offset_ns = recording.metadata().wall_offset_ns();
    let measured = Measured::new(&replay.timing);
    let summary = show(args, global, measured, move |runtime, controls, output| {
        let _runtime = runtime.enter();
        let player = TopPlayer::new(pace, controls, output)?;
        let check = move |summary: &RecordingSummary| {
            range.check(summary, wall_offset_ns, &file)?;
            target.check_all_seen(&summary.processes, &file)
        };
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
    measured: Measured,
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
    let mut app = args.app(global, measured, screen.size()?);
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
    sandbox::enter_to_measure(&mut live, Vec::new(), false, global);
    let duration = args.duration.unwrap_or_else(|| args.interval());
    let origin = origin::of_host(args.target.selected_by(), None, []);
    let start_ns = clock::monotonic_ns();
    let reading = session::top::read_once(&mut live, duration).await?;
    let times_ns = Some((start_ns, clock::monotonic_ns()));
    if print(&args, global, measured(&live), (&origin, times_ns), reading)? == Printed::Nothing {
        let request = args.no_match_request()?;
        log::warn!("{}", no_match::explain_live(&request, &[]));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_recording(args: &TopArgs, path: &Path, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let OpenedRecording {
        recording,
        playback,
        replay,
    } = args.open(path)?;
    let shows_progress = !global.quiet;
    let measured = Measured::new(&replay.timing);
    let selection = args.range.add_to(args.target.selected_by());
    let origin = ReportOrigin {
        // The screen says so, too.
        vcpus_from_thread_names: false,
        ..origin::of_recording(path, &recording, selection)
    };
    let (reading, summary) =
        session::top::read_recording_once(recording, &playback, replay, shows_progress)?;
    args.range.check(&summary, origin.wall_offset_ns, path)?;
    recording::report_end(&summary, &args.target, path)?;
    if print(
        args,
        global,
        measured,
        (&origin, summary.period_ns),
        reading,
    )? == Printed::Nothing
    {
        let request = args.no_match_request()?;
        let selection = RecordingSelection {
            path,
            codes: None,
            formats: &[],
            is_part: playback.limits.is_part(),
        };
        log::warn!("{}", no_match::explain_recorded(&request, selection, &[]));
    }
    Ok(ExitCode::SUCCESS)
}

/// What was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    Rows,
    Nothing,
}

/// Width of the text of `--once` if it is not limited.
const DEFAULT_COLUMNS: u16 = 120;

/// Prints a reading as text, with the lines that are above each report.
fn print(
    args: &TopArgs,
    global: GlobalOptions,
    measured: Measured,
    (origin, times_ns): (&ReportOrigin, Option<(u64, u64)>),
    reading: TopReading,
) -> anyhow::Result<Printed> {
    let mut app = args.app(global, measured, (0, 0));
    app.add_reading(reading);
    let mut out = open_stdout()?;
    let columns =
        stdout_width().map_or(DEFAULT_COLUMNS, |it| u16::try_from(it).unwrap_or(u16::MAX));
    let style = TextStyle {
        max_width: Some(columns.into()),
        ..TextStyle::default()
    };
    let mut heading = TextHeading::new(what_is_counted(&args.kind), false, style);
    heading.begin_report(origin, ReportPeriod::Total, times_ns, &mut out)?;
    tui::print(&mut app, columns, &mut out)?;
    io::Write::flush(&mut out)?;
    Ok(match app.is_empty() {
        true => Printed::Nothing,
        false => Printed::Rows,
    })
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
