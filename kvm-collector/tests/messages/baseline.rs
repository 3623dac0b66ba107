//! A comparison with a report of another selection is refused, and a comparison names its baseline.

use std::process::Command;

use crate::{check, run, sample::write_mixed_recording, temporary_folder::TemporaryFolder};

#[test]
fn a_baseline_of_another_selection_is_refused() {
    let folder = TemporaryFolder::new();
    let (file, before) = (folder.file("kvm.data"), folder.file("before.json"));
    write_mixed_recording(&file);
    let (file, before) = (file.to_str(), before.to_str());
    let (file, before) = (file.expect("UTF-8"), before.expect("UTF-8"));
    let exits = ["exits", "-i", file];
    let earlier = ["--vcpu", "0", "--json", "-o", before];
    check(&[&exits[..], &earlier].concat(), 0, &[]);
    let compare = |args: &[&str], code, texts: &[&str]| {
        let args = [&exits[..], &["--baseline", before], args].concat();
        check(&args, code, texts);
    };
    compare(&["--vcpu", "0"], 0, &[]);
    compare(&["--vcpu", "0", "--from", "1ns"], 0, &[]);
    compare(
        &[],
        2,
        &["--vcpu 0", "this command is none", "select the same"],
    );
    compare(&["--vcpu", "1"], 2, &["--vcpu 0", "--vcpu 1"]);
    compare(
        &["--vcpu", "0", "--reason", "hlt"],
        2,
        &["--vcpu 0 --reason hlt"],
    );
    compare(
        &["--vcpu", "0", "--kind", "pio"],
        2,
        &["--kind vmexit", "--kind pio"],
    );
    compare(
        &["--vcpu", "0", "--by", "vm"],
        2,
        &["--by reason", "--by vm"],
    );

    let args = ["--vcpu", "0", "--baseline", before, "--json"];
    let output = run(&[&exits[..], &args].concat());
    let json = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        json.contains(&format!(r#""baseline":{{"file":"{before}""#)),
        "{json}"
    );
}

#[test]
fn an_endless_baseline_is_refused_at_its_limit() {
    let folder = TemporaryFolder::new();
    let (file, pipe) = (folder.file("kvm.data"), folder.file("pipe"));
    write_mixed_recording(&file);
    let created = Command::new("mkfifo").arg(&pipe).status();
    assert!(created.expect("mkfifo").success());
    let whole = "it has more than 16 MiB";
    let inputs = [
        ("yes '{}' |", "/dev/stdin", whole),
        (
            "yes | tr -d '\\n' |",
            "/dev/stdin",
            "line 1 has more than 16 MiB",
        ),
        ("yes '' > \"$2\" &", "$2", whole),
    ];
    for (source, baseline, expected) in inputs {
        let script = format!(
            "{source} (ulimit -t 30 -v 1000000; exec \"$0\" exits -i \"$1\" --baseline \"{baseline}\")"
        );
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_kvm-collector")])
            .args([&file, &pipe])
            .output()
            .expect("sh");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{source}: {message}");
        assert!(message.contains(expected), "{source}: {message}");
    }
}
