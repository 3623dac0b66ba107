//! The report of `--self` about the collector's own cost.

use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal, get_number},
    guest::Guest,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

const SPARE_CPU_REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::SpareCpus,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("self_reports_the_runs_of_each_program", REQUIREMENTS, runs),
        test("self_reports_the_memory_of_the_rings", REQUIREMENTS, rings),
        test(
            "cpus_that_are_not_present_have_no_rings",
            SPARE_CPU_REQUIREMENTS,
            rings_of_present_cpus,
        ),
    ]
}

/// Parses the number in a column of a line. It has thousands separators.
fn parse_column(line: &str, index: usize) -> Option<u64> {
    let word = line.split_whitespace().nth(index)?;
    word.replace(',', "").parse().ok()
}

/// The kernel ran the program for each counted event, and for the events before the measurement started.
fn runs() -> Result<(), Failed> {
    let event = "kvm_userspace_exit";
    let guest = Guest::prepare(&["-k", "io", "-n", "3000"])?;
    let collector = RunningCollector::start(&["stat", "--self", "--json", "-e", event])?;
    let exits = guest.run()?.userspace_exits()?;
    let ended = collector.end()?.expect_code(0)?;
    let count = get_number(&ended.report()?["events"][0], "count")?;
    let line = ended
        .stderr
        .lines()
        .find(|it| it.contains("kvm:kvm_userspace_exit"));
    let line = line.ok_or_else(|| format!("no line for the program: {}", ended.stderr))?;
    let runs = parse_column(line, 2).ok_or_else(|| format!("no runs: {line}"))?;
    ensure(
        exits <= count && count <= runs && runs < count + count / 2,
        || format!("{exits} exits, {count} counted, in {runs} runs"),
    )?;
    for text in [
        "of the time of",
        "this process",
        "peak resident memory",
        "kernel",
    ] {
        ensure(ended.stderr.contains(text), || {
            format!("no `{text}`: {}", ended.stderr)
        })?;
    }
    Ok(())
}

fn rings() -> Result<(), Failed> {
    let (maps, rings) = map_and_ring_mib(&["--ring", "1M"])?;
    let cpus = f64::from(u32::try_from(std::thread::available_parallelism()?.get())?);
    ensure(rings >= cpus && maps >= rings, || {
        format!("rings of 1 MiB for {cpus} CPUs: {maps} MiB in maps, {rings} of it in rings")
    })
}

/// On a machine with two CPUs, the rings do not share the default memory with CPUs that could be added.
fn rings_of_present_cpus() -> Result<(), Failed> {
    let present = std::fs::read_to_string("/sys/devices/system/cpu/present")?;
    ensure_equal("present CPUs", present.trim(), "0-1")?;
    let (_, rings) = map_and_ring_mib(&[])?;
    ensure(rings == 8.0, || {
        format!("expected two rings of 4 MiB, not {rings} MiB")
    })
}

/// Returns how many MiB of the kernel's memory `trace --self` with these arguments has in maps, and how many of it in rings.
fn map_and_ring_mib(args: &[&str]) -> Result<(f64, f64), Failed> {
    let trace = ["trace", "--self", "-o", "/dev/null", "-e", "kvm_pio"];
    let ended = RunningCollector::start(&[&trace, args].concat())?.end()?;
    let ended = ended.expect_code(0)?;
    let line = ended
        .stderr
        .lines()
        .find(|it| it.trim_start().starts_with("kernel "));
    let line =
        line.ok_or_else(|| format!("no line for the memory of the kernel: {}", ended.stderr))?;
    let mib = |index| {
        let word = line.split_whitespace().nth(index);
        word.and_then(|it| it.parse::<f64>().ok())
    };
    // kernel  2.1 MiB in maps, 2.0 MiB of it in rings
    let numbers = mib(1).zip(mib(5));
    Ok(numbers.ok_or_else(|| format!("no numbers: {line}"))?)
}
