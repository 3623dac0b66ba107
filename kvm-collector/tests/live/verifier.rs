//! Every program passes the verifier of this kernel, and none has become much more work for it than on record.

use std::{collections::BTreeMap, fs};

use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, equal},
    guest::Guest,
    process::run_collector,
    requirements::{Requirement, test},
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// `| settings | program | kernel | ... |`, and what each kernel's verifier went through.
const RECORD: &str = include_str!("../../../docs/verifier.md");

/// A command, as the record calls it, and its arguments.
type Case = (&'static str, &'static [&'static str]);

/// All events: each of their slots' programs.
const ALL: [Case; 3] = [
    ("exits", &["exits"]),
    ("stat", &["stat", "-e", "*"]),
    ("trace", &["trace", "-e", "*"]),
];

/// What `exits` can be asked for besides.
const EXITS: [Case; 3] = [
    (
        "exits --preempt --slow",
        &["exits", "--preempt", "--slow", "1s"],
    ),
    ("exits --causes", &["exits", "--causes"]),
    ("exits --kind userspace", &["exits", "--kind", "userspace"]),
];

/// Few events. The slots' programs differ in nothing but a number, and loading all of them takes its time.
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
            checked("plain", &ALL, &["-v"])
        }),
        test(
            "programs_pass_the_verifier_with_more_of_exits",
            REQUIREMENTS,
            || checked("plain", &EXITS, &["-v"]),
        ),
        test("programs_pass_the_verifier_per_vm", REQUIREMENTS, || {
            checked("plain", &FEW, &["-v"])
        }),
        test(
            "programs_pass_the_verifier_with_filters",
            REQUIREMENTS,
            || {
                let guest = Guest::prepare(&[])?;
                let tid = guest.tids[0].to_string();
                let filters = ["-v", "--vcpu", "0", "-p", &guest.pid, "--tid", &tid];
                checked("filters", &FEW, &filters)
            },
        ),
        test("programs_pass_the_verifier_with_log", REQUIREMENTS, || {
            checked("log", &FEW, &["-vv"])
        }),
    ]
}

/// Loads all programs with some settings. Fails where one needs a fifth more than the most on record.
fn checked(settings: &str, cases: &[Case], options: &[&str]) -> Result<(), Failed> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<_> = release.trim().splitn(3, '.').take(2).collect();
    let kernel = kernel.join(".");
    let mut over = Vec::new();
    println!();
    for (command, args) in cases {
        let ended =
            run_collector(&[args, options, &["--json", "-d", "100ms"]].concat())?.expect_code(0)?;
        let slots = verified_lines(&ended.stderr).filter(|(program, _)| program.ends_with("_N"));
        if args.contains(&"*") {
            equal("programs of slots", slots.count(), events()?)?;
        }
        let mut most = BTreeMap::new();
        for (program, instructions) in verified_lines(&ended.stderr) {
            let most = most.entry(program).or_default();
            *most = instructions.max(*most);
        }
        ensure(!most.is_empty(), || format!("no program: {ended:?}"))?;
        for (program, instructions) in most {
            println!(
                "verifier: | {command} | {settings} | {program} | {kernel} | {instructions} |"
            );
            match on_record(command, settings, &program) {
                Some(record) if instructions <= record + record / 5 => {}
                record => over.push(format!(
                    "{command}, {settings}: {program} took {instructions} instructions to verify, on record is {record:?}"
                )),
            }
        }
    }
    ensure(over.is_empty(), || {
        format!("{over:#?}; if it is right so, put it on record in docs/verifier.md")
    })
}

fn verified_lines(stderr: &str) -> impl Iterator<Item = (String, u64)> {
    stderr.lines().filter_map(verified)
}

/// How many KVM events this kernel has.
fn events() -> Result<usize, Failed> {
    let mut count = 0;
    for system in ["kvm", "kvmmmu"] {
        for entry in fs::read_dir(format!("/sys/kernel/tracing/events/{system}"))? {
            count += usize::from(entry?.file_type()?.is_dir());
        }
    }
    Ok(count)
}

/// `kvm-collector: info: vm_exit on kvm:kvm_exit: 520 instructions verified, 712 bytes of machine code`; the programs of all
/// slots are one, written `slot_N`.
fn verified(line: &str) -> Option<(String, u64)> {
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

/// The most on record for a program, over all kernels.
fn on_record(command: &str, settings: &str, program: &str) -> Option<u64> {
    RECORD
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            match cells[..] {
                ["", of_command, of_settings, of_program, _, instructions, ""]
                    if (of_command, of_settings, of_program) == (command, settings, program) =>
                {
                    instructions.parse().ok()
                }
                _ => None,
            }
        })
        .max()
}
