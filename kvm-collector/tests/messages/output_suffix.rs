//! The suffix of `-o` chooses the format of a report, or contradicts it.

use std::fs;

use crate::{check, run, sample::write_mixed_recording, temporary_folder::TemporaryFolder};

#[test]
fn the_suffix_of_the_output_chooses_the_format() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    for command in ["stat", "exits"] {
        for (name, start) in [
            ("out.csv", "start,host,"),
            ("out.json", "{"),
            ("out.jsonl", "{"),
            ("out.txt", "# "),
            ("out", "# "),
        ] {
            let out = folder.file(name);
            let out_arg = out.to_str().expect("UTF-8");
            check(&[command, "-i", file, "-o", out_arg], 0, &[]);
            let text = fs::read_to_string(&out).expect("a report");
            if start == "# " {
                assert!(
                    !text.starts_with(['{']) && !text.starts_with("start,"),
                    "{text}"
                );
            } else {
                assert!(text.starts_with(start), "{command} {name}: {text}");
            }
            // Any text may be in a file of text.
            if name.ends_with(".txt") {
                check(&[command, "-i", file, "--json", "-o", out_arg], 0, &[]);
            }
        }
    }
}

#[test]
fn a_suffix_of_another_format_is_refused() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let cases: [(&str, &[&str], &str); 6] = [
        (
            "x.json",
            &["--csv"],
            "stands for JSON, but the output format is CSV",
        ),
        (
            "x.csv",
            &["--json"],
            "stands for CSV, but the output format is JSON",
        ),
        ("x.csv", &["--format", "text"], "the output format is text"),
        ("x.html", &[], "`kvm-collector convert -i FILE -o "),
        (
            "x.parquet",
            &["--csv"],
            "`kvm-collector convert -i FILE -o ",
        ),
        (
            "x.pftrace",
            &["--json"],
            "`kvm-collector convert -i FILE -o ",
        ),
    ];
    for command in ["stat", "exits"] {
        for (name, options, text) in cases {
            let out = folder.file(name);
            let out_arg = out.to_str().expect("UTF-8");
            let args = [&[command, "-i", file, "-o", out_arg], options].concat();
            check(&args, 2, &[text]);
            assert!(!out.exists(), "{args:?}");
        }
    }
    // Commands that write other formats have the same rule.
    for (options, name, text) in [
        (
            &["convert", "--to", "json"][..],
            "x.csv",
            "the output format is JSON",
        ),
        (
            &["convert", "--to", "parquet"],
            "x.html",
            "stands for HTML, but",
        ),
        (&["trace"], "x.json", "the output format is text"),
        (
            &["trace", "--json"],
            "x.pftrace",
            "stands for Perfetto, but",
        ),
    ] {
        let out = folder.file(name);
        let out_arg = out.to_str().expect("UTF-8");
        let args = [options, &["-i", file, "-o", out_arg]].concat();
        check(&args, 2, &[text]);
        assert!(!out.exists(), "{args:?}");
    }
    let help = run(&["stat", "--help"]).stdout;
    let help = String::from_utf8(help).expect("UTF-8");
    assert!(help.contains("by the suffix of -o"), "{help}");
}
