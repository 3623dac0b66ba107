//! A misspelt name gets the nearest ones, and the command that lists all.

use crate::{check, run, sample::write_mixed_recording, temporary_folder::TemporaryFolder};

#[test]
fn kinds_get_suggestions_in_the_words_of_their_source() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let list = format!("list events -i {file}");
    for command in [&["exits"][..], &["top", "--once"]] {
        let check_kind = |kind: &str, texts: &[&str]| {
            check(&[command, &["-i", file, "--kind", kind]].concat(), 2, texts);
        };
        check_kind("mmoi", &["did you mean mmio?", "list kinds"]);
        check_kind("pci", &["did you mean pio?", "list kinds"]);
        check_kind("iop", &["did you mean pio?"]);
        check_kind(
            "frobnicate",
            &["`frobnicate`", "vmexit, userspace, mmio, pio"],
        );
        check_kind(
            "kvm_exti.guest_rip",
            &[
                "this recording does not have",
                "did you mean kvm_exit",
                &list,
            ],
        );
        check_kind("kvm_pio.prot", &["kvm:kvm_pio", "did you mean port?"]);
        check_kind(
            "mmio",
            &["kvm:kvm_mmio, which this recording does not have (`", &list],
        );
    }
    let args = ["exits", "-i", file, "--causes", "--cause", "cpid"];
    check(&args, 2, &["did you mean cpuid?"]);
}

#[test]
fn values_get_suggestions_and_no_list() {
    let cases: [(&[&str], &str, &str); 6] = [
        (
            &["exits", "--by", "vpcu"],
            "did you mean vcpu?",
            "[possible values",
        ),
        (
            &["top", "--sort", "cots"],
            "did you mean cost?",
            "[possible values",
        ),
        (&["exits", "--sort", "tmie"], "did you mean time?", "\0"),
        (
            &["convert", "-i", "x", "-o", "y", "--to", "parqet"],
            "did you mean parquet?",
            "[possible",
        ),
        (
            &["list", "evnts"],
            "did you mean events?",
            "[possible values",
        ),
        (
            &["exits", "--color", "alwys"],
            "did you mean always?",
            "[possible values",
        ),
    ];
    for (args, expected, unexpected) in cases {
        check(args, 2, &[expected]);
        let stderr = run(args).stderr;
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(!stderr.contains(unexpected), "{args:?}: {stderr}");
    }
    check(
        &["exits", "--by", "frobnicate"],
        2,
        &["possible values", "vcpu"],
    );
    check(&["exits", "--percentiles", "p9x"], 2, &["such as 95, p95"]);
}

#[test]
fn columns_get_suggestions() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let args = ["exits", "-i", file, "--columns", "cuont"];
    check(&args, 2, &["`cuont`: did you mean count", "accepts count"]);
}
