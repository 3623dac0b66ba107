//! An option of another subcommand, and a file without an option, are named with what to write instead.

use std::fs;

use crate::{check, run, temporary_folder::TemporaryFolder};

#[test]
fn an_option_of_another_subcommand_names_it() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["exits", "--per-exit"],
            "`--per-exit` is an option of `trace`, not of `exits`",
        ),
        (
            &["exits", "--rotate", "3"],
            "`--rotate` is an option of `record`",
        ),
        (
            &["record", "--per-exit"],
            "`--per-exit` is an option of `trace`",
        ),
        (&["stat", "--hist"], "`--hist` is an option of `exits`"),
        (
            &["list", "--kind", "pio"],
            "`--kind` is an option of `exits`, `top` and `guest`",
        ),
        (
            &["trace", "--csv"],
            "`--csv` is an option of `stat` and `exits`",
        ),
        (&["stat", "-z"], "`-z` is an option of `record`"),
        (&["record", "--to=json"], "`--to` is an option of"),
    ];
    for (args, tip) in cases {
        check(args, 2, &[tip]);
        let stderr = run(args).stderr;
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(!stderr.contains("similar argument"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_value_that_is_given_as_an_option_gets_its_option() {
    let convert = ["convert", "-i", "x", "-o", "y"];
    check(
        &[&convert[..], &["--json"]].concat(),
        2,
        &["use `--to json`"],
    );
    check(&[&convert[..], &["--csv"]].concat(), 2, &["use `--to csv`"]);
    check(&["exits", "--vm=a", "--text"], 2, &["use `--format text`"]);
}

#[test]
fn a_recording_without_i_gets_a_tip_in_every_command_that_reads_one() {
    for command in ["stat", "exits", "trace", "top", "list", "convert"] {
        check(&[command, "k.data"], 2, &["`-i k.data`"]);
    }
    let folder = TemporaryFolder::new();
    let file = folder.file("recording");
    fs::write(&file, "").expect("a file");
    let file = file.to_str().expect("UTF-8");
    check(&["list", file], 2, &["use `-i "]);
    check(&["record", file], 2, &["use `-o "]);
}

#[test]
fn an_unknown_option_of_no_subcommand_keeps_the_suggestion_of_the_parser() {
    check(&["exits", "--reasn", "x"], 2, &["--reason"]);
}
