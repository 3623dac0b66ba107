//! Every program passes the verifier of this kernel, and none has become much more work for it than on record.

use std::{collections::BTreeMap, fs};

use libtest_mimic::{Failed, Trial};

use crate::{
    check::ensure,
    guest::Guest,
    needs::{Need, trial},
    process::run,
};

const NEEDS: &[Need] = &[Need::Root, Need::Kvm, Need::Tracefs];

/// `| settings | program | kernel | ... |`, and what each kernel's verifier went through.
const RECORD: &str = include_str!("../../../docs/verifier.md");

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("programs_pass_the_verifier", NEEDS, || {
            checked("plain", &["-v"], &[])
        }),
        trial("programs_pass_the_verifier_with_filters", NEEDS, || {
            let guest = Guest::prepare(&[])?;
            let tid = guest.tids[0].to_string();
            checked(
                "filters",
                &["-v"],
                &["--vcpu", "0", "-p", &guest.pid, "--tid", &tid],
            )
        }),
        trial("programs_pass_the_verifier_with_log", NEEDS, || {
            checked("log", &["-vv"], &[])
        }),
    ]
}

/// Loads all programs with some settings. Fails where one needs a fifth more than the most on record.
fn checked(settings: &str, log: &[&str], selection: &[&str]) -> Result<(), Failed> {
    let commands: [(&str, &[&str]); 4] = [
        ("exits", &["exits", "--json"]),
        ("stat", &["stat", "--json", "-e", "*"]),
        ("stat --per-vm", &["stat", "--json", "-e", "*", "--per-vm"]),
        ("trace", &["trace", "--json", "-e", "*"]),
    ];
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<_> = release.trim().splitn(3, '.').take(2).collect();
    let kernel = kernel.join(".");
    let mut over = Vec::new();
    for (command, args) in commands {
        let ended = run(&[log, args, selection, &["-d", "100ms"]].concat())?.expect_code(0)?;
        let mut most = BTreeMap::new();
        for line in ended.stderr.lines() {
            if let Some((program, instructions)) = verified(line) {
                let most = most.entry(program).or_default();
                *most = instructions.max(*most);
            }
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

/// `kvm-collector: info: pair_exit on kvm:kvm_exit: 520 instructions verified, 712 bytes of machine code`; the programs of all
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
