//! `kvm-collector record`.

mod args;
mod command_line;
mod summary;

use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;

pub(in crate::cli) use args::RecordArgs;
pub(in crate::cli) use command_line::selection_of;

use super::{
    global::{EXIT_INCOMPLETE, GlobalOptions},
    no_match, sandbox,
    stop::saturating_ns,
    tracefs::{find_kvm_format, open_tracefs_with_kvm},
    usage::bail_usage,
};
use crate::{
    bounds::{SYSTEM_FILE_BYTES, read_bounded},
    host::{self, clock},
    recording::{
        FlightRecorderOptions, HostFacts, KernelFormats, RecordedEvent, Recorder, RecorderOptions,
    },
    session::{
        print_message,
        record::{RecordSession, RecordSummary},
    },
    source::{Live, LiveOptions},
    timing::ExitTrigger,
    tracefs::{Format, Tracefs, kernel_types::KernelTypeTable},
};

/// Number of flight-recorder files to keep if `--rotate` is not given.
const DEFAULT_FLIGHT_FILES: usize = 10;

pub(in crate::cli) async fn run(
    args: RecordArgs,
    global: GlobalOptions,
) -> anyhow::Result<ExitCode> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        bail_usage!("cannot write a recording to a terminal: give a file with -o, or use a pipe");
    }
    let is_file = !to_stdout && fs::metadata(&args.output).map_or(true, |it| it.is_file());
    if !is_file
        && (args.max_size.is_some() || args.rotate.is_some() || args.flight_recorder.is_some())
    {
        bail_usage!(
            "--max-size, --rotate and --flight-recorder need a regular file: give one with -o"
        );
    }
    if args.rotate.is_some() && args.max_size.is_none() && args.flight_recorder.is_none() {
        bail_usage!("--rotate needs --max-size or --flight-recorder");
    }
    let tracefs = open_tracefs_with_kvm(args.target.no_wait)?;
    let mut selection = args.target.for_running_kernel()?;
    let exit = find_kvm_format(&tracefs, "kvm_exit")?;
    selection.filter.reasons = args.reasons.codes(exit.as_ref(), host::kvm::isa())?;
    let formats = args.live_events(&tracefs)?;
    args.reasons.check_effect(&formats)?;
    args.reasons
        .warn_about_other_events(&args.events, "recorded", "-e kvm_exit,kvm_entry");
    let flight_recorder = args.flight_recorder.map(|window| FlightRecorderOptions {
        window_ns: saturating_ns(window),
        memory_bytes: args.memory,
    });
    let trigger = args
        .trigger
        .map(|threshold| ExitTrigger::new(threshold, &formats))
        .transpose()?;
    let max_files = args
        .rotate
        .map(|files| files as usize)
        .or(flight_recorder.as_ref().map(|_| DEFAULT_FLIGHT_FILES));
    let options = RecorderOptions {
        path: (!to_stdout).then(|| args.output.clone()),
        zstd_level: args.compress,
        max_file_bytes: args.max_size,
        max_files,
        flight_recorder,
    };
    let recorder = Recorder::new(
        options,
        &read_event_formats(&tracefs, &formats)?,
        &read_host_facts(&tracefs, &formats),
    )
    .with_context(|| format!("cannot write to {}", args.output.display()))?;
    let overhead = args.overhead.start()?;
    let mut live = Live::start(LiveOptions {
        logs_programs: global.ebpf_log,
        ..args.live_options(&tracefs, formats, selection)?
    })?;
    let conditions = args.stop.conditions();
    let mut schedule = if to_stdout {
        conditions.start_with_stderr()?
    } else {
        conditions.start(None)?
    };
    sandbox::enter_to_measure(
        &mut live,
        vec![args.output.clone()],
        conditions.has_command(),
        global,
    );
    let session = RecordSession {
        live,
        recorder,
        trigger,
        output: args.output.clone(),
        is_flight_recorder: args.flight_recorder.is_some(),
        queue_bytes: args.buffer,
        quiet: global.quiet,
    };
    let RecordSummary {
        recorded,
        lost,
        is_file_full,
        write_error,
    } = session.run(&mut schedule, overhead.as_ref()).await?;
    if !global.quiet || write_error.is_some() {
        let is_flight_recorder = args.flight_recorder.is_some();
        let text = summary::text(&args.output, is_flight_recorder, recorded, lost);
        print_message(&text);
    }
    if recorded.events == 0 && args.flight_recorder.is_none() {
        let request = no_match::Request {
            requested: no_match::Requested::Events,
            target: &args.target,
            reasons: Some(&args.reasons),
            events: Some(&args.events),
        };
        log::warn!("{}", no_match::explain_live(&request, &[]));
    }
    let command_failed = schedule.finish().await?;
    if let Some(error) = write_error {
        // The summary above has already named the files that were written.
        return Err(anyhow::Error::new(error).context(format!(
            "recording to {} ended early",
            args.output.display()
        )));
    }
    if is_file_full && !global.quiet {
        print_message("the recording ended because --max-size was reached");
    }
    Ok(match (command_failed, args.strict && lost > 0) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(EXIT_INCOMPLETE),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Reads the format texts of the events.
fn read_event_formats(tracefs: &Tracefs, formats: &[Format]) -> anyhow::Result<Vec<RecordedEvent>> {
    let event = |format: &Format| {
        Ok(RecordedEvent {
            system: format.system.clone(),
            name: format.name.clone(),
            id: format.id,
            format: tracefs.read_format_text(&format.event_name())?,
        })
    };
    formats.iter().map(event).collect()
}

fn read_host_facts(tracefs: &Tracefs, events: &[Format]) -> HostFacts {
    let mut kernel_types = KernelTypeTable::default();
    for used in events.iter().filter_map(Format::used_types) {
        kernel_types.merge(used);
    }
    // Missing files are left out: the collector does not need them.
    let text = |name: &str| {
        // The kernel returns the whole file only to a read that is large enough.
        let mut text = vec![0; 64 << 10];
        let read = fs::File::open(tracefs.root().join(name)).and_then(|mut it| it.read(&mut text));
        text.truncate(read.unwrap_or(0));
        text
    };
    HostFacts {
        machine: host::machine::read(Path::new("/")),
        command: command_line::own(),
        clocks: clock::real_and_monotonic_ns(),
        kernel_formats: KernelFormats {
            header_page: text("events/header_page"),
            header_event: text("events/header_event"),
            printk_formats: read_bounded(&tracefs.root().join("printk_formats"), SYSTEM_FILE_BYTES)
                .unwrap_or_default(),
        },
        kernel_types,
    }
}
