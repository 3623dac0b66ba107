//! Every program passes the verifier of this kernel, and needs at most a fifth more verified instructions than recorded in
//! `docs/verifier.md`.

use std::{collections::BTreeMap, fs};

use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal},
    guest::Guest,
    process::run_collector,
    requirements::{Requirement, test},
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// Document with a table of `| command | settings | program | kernel | instructions |`.
const RECORDED: &str = include_str!("../../../docs/verifier.md");

/// The name of a command in the document, and its arguments.
type Case = (&'static str, &'static [&'static str]);

/// Commands with all events, so that the programs of all slots are loaded.
const ALL: [Case; 3] = [
    ("exits", &["exits"]),
    ("stat", &["stat", "-e", "*"]),
    ("trace", &["trace", "-e", "*"]),
];

/// `exits` with further options.
const EXITS: [Case; 3] = [
    (
        "exits --preempt --slow",
        &["exits", "--preempt", "--slow", "1s"],
    ),
    ("exits --causes", &["exits", "--causes"]),
    ("exits --kind userspace", &["exits", "--kind", "userspace"]),
];

/// Commands with few events. The programs of the slots differ only in the slot's number, and loading all of them takes long.
const FEW: [Case; 4] = [
    ("exits", &["exits"]),
    (
        "stat --per-vm",
        &["stat", "--per-vm", "-e", "kvm_exit,kvm_pio"],
    ),
    ("trace", &["trace", "-e", "kvm_exit,kvm_pio"]),
    (
        "trace -e sched:sched_switch",
        &["trace", "-e", "sched:sched_switch"],
    ),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("programs_pass_the_verifier", REQUIREMENTS, || {
            check_programs("plain", &ALL, &["-v"])
        }),
        test(
            "programs_pass_the_verifier_with_options_of_exits",
            REQUIREMENTS,
            || check_programs("plain", &EXITS, &["-v"]),
        ),
        test("programs_pass_the_verifier_per_vm", REQUIREMENTS, || {
            check_programs("plain", &FEW, &["-v"])
        }),
        test(
            "programs_pass_the_verifier_with_filters",
            REQUIREMENTS,
            || {
                let guest = Guest::prepare(&[])?;
                let tid = guest.tids[0].to_string();
                let filters = ["-v", "--vcpu", "0", "-p", &guest.pid, "--tid", &tid];
                check_programs("filters", &FEW, &filters)
            },
        ),
        test("programs_pass_the_verifier_with_log", REQUIREMENTS, || {
            check_programs("log", &FEW, &["-vv"])
        }),
    ]
}

/// Loads the programs of each command. Fails if a program needs over a fifth more instructions than the recorded maximum.
fn check_programs(settings: &str, cases: &[Case], options: &[&str]) -> Result<(), Failed> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<_> = release.trim().splitn(3, '.').take(2).collect();
    let kernel = kernel.join(".");
    let mut too_expensive = Vec::new();
    println!();
    for (command, args) in cases {
        let ended =
            run_collector(&[args, options, &["--json", "-d", "100ms"]].concat())?.expect_code(0)?;
        let slots = verified_lines(&ended.stderr).filter(|(program, _)| program.ends_with("_N"));
        if args.contains(&"*") {
            ensure_equal("programs of slots", slots.count(), events()?)?;
        }
        let mut maxima = BTreeMap::new();
        for (program, instructions) in verified_lines(&ended.stderr) {
            let maximum = maxima.entry(program).or_default();
            *maximum = instructions.max(*maximum);
        }
        ensure(!maxima.is_empty(), || format!("no program: {ended:?}"))?;
        for (program, instructions) in maxima {
            println!(
                "verifier: | {command} | {settings} | {program} | {kernel} | {instructions} |"
            );
            match recorded_maximum(command, settings, &program) {
                Some(recorded) if instructions <= recorded + recorded / 5 => {}
                recorded => too_expensive.push(format!(
                    "{command}, {settings}: {program}: {instructions} verified instructions, recorded are {recorded:?}"
                )),
            }
        }
    }
    ensure(too_expensive.is_empty(), || {
        format!("{too_expensive:#?}; if this is intended, record it in docs/verifier.md")
    })
}

fn verified_lines(stderr: &str) -> impl Iterator<Item = (String, u64)> {
    stderr.lines().filter_map(parse_verified_line)
}

/// Returns the number of KVM events of this kernel.
fn events() -> Result<usize, Failed> {
    let mut count = 0;
    for system in ["kvm", "kvmmmu"] {
        for entry in fs::read_dir(format!("/sys/kernel/tracing/events/{system}"))? {
            count += usize::from(entry?.file_type()?.is_dir());
        }
    }
    Ok(count)
}

/// Parses a line such as `kvm-collector: info: vm_exit on kvm:kvm_exit: 520 instructions verified, 712 bytes of machine code`.
/// The programs of all slots have the same name, `slot_N`.
fn parse_verified_line(line: &str) -> Option<(String, u64)> {
    let (head, _) = line.split_once(" instructions verified")?;
    let (head, instructions) = head.rsplit_once(": ")?;
    let program = head.rsplit_once(" on ")?.0.rsplit(' ').next()?;
    let program = match program.rsplit_once('_') {
        Some((name, number)) if number.bytes().all(|it| it.is_ascii_digit()) => {
            format!("{name}_N")
        }
        _ => program.to_owned(),
    };
    Some((program, instructions.parse().ok()?))
}

/// Returns the recorded maximum for a program over all kernels.
fn recorded_maximum(command: &str, settings: &str, program: &str) -> Option<u64> {
    RECORDED
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            match cells[..] {
                [
                    "",
                    row_command,
                    row_settings,
                    row_program,
                    _,
                    instructions,
                    "",
                ] if (row_command, row_settings, row_program) == (command, settings, program) => {
                    instructions.parse().ok()
                }
                _ => None,
            }
        })
        .max()
}
