//! Recordings with events of all threads have the same VMs for every command and in every message: the recorder, the idle task and
//! kernel threads are none.

use std::fs;

use crate::{check, real_recordings, run, temporary_folder::TemporaryFolder};

/// Runs `test` with the path of each recording, its name, and the name of its only VM.
fn for_each_recording(test: impl Fn(&str, &str, &str)) {
    let folder = TemporaryFolder::new();
    let first = folder.file("x");
    real_recordings::write_to(first.parent().expect("a folder"));
    for name in real_recordings::file_names() {
        let vm = if name.contains("web") {
            "web-1"
        } else {
            "db-1"
        };
        test(folder.file(&name).to_str().expect("UTF-8"), &name, vm);
    }
}

/// Returns the names and process ids of the VMs in JSON: the ones that `list` or `stat --per-vm` prints.
fn vms(args: &[&str]) -> Vec<(String, u64)> {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let vms = json["vms"].as_array().expect("VMs");
    let id = |vm: &serde_json::Value| {
        (
            vm["vm"].as_str().expect("a name").to_owned(),
            vm["pid"].as_u64().expect("a pid"),
        )
    };
    vms.iter().map(id).collect()
}

#[test]
fn every_command_finds_one_vm() {
    for_each_recording(|file, name, vm| {
        let listed = vms(&["list", "--json", "-i", file, "vms"]);
        assert_eq!(listed.len(), 1, "{name}: {listed:?}");
        assert_eq!(listed[0].0, vm, "{name}");
        let in_range = vms(&["list", "--json", "-i", file, "--from", "0s", "vms"]);
        assert_eq!(in_range, listed, "{name}");
        let counted = vms(&["stat", "--json", "-i", file, "--per-vm"]);
        assert_eq!(counted, listed, "{name}");
        // Also if no event of a vCPU thread is selected.
        let counted = vms(&[
            "stat",
            "--json",
            "-i",
            file,
            "--per-vm",
            "-e",
            "sched_switch,kvm_unmap_hva_range",
        ]);
        assert_eq!(counted, listed, "{name}");
    });
}

#[test]
fn messages_name_one_vm_and_agree_about_other_processes() {
    for_each_recording(|file, name, vm| {
        let (_, pid) = vms(&["list", "--json", "-i", file, "vms"]).remove(0);
        let events = format!("it has events of {vm} (pid {pid})");
        let out = format!("{file}.out");
        let commands: [&[&str]; 5] = [
            &["stat"],
            &["trace", "-e", "kvm_exit"],
            &["exits"],
            &["top", "--once"],
            &["convert", "--to", "html", "-o", &out],
        ];
        // The recorder has been switched from and to.
        let recorder = (pid - 2..pid).rev().map(|it| it.to_string());
        for command in commands {
            let args = [command, &["-i", file]].concat();
            let named = [&args[..], &["--vm", "nope"]].concat();
            check(&named, 2, &[&format!("{events}\n")]);
            for other in recorder.clone() {
                let message = format!("no events of process {other} in");
                let by_pid = [&args[..], &["-p", &other]].concat();
                check(&by_pid, 2, &[&message, &events]);
            }
        }
        assert!(fs::read(&out).is_err(), "{name}: no report is written");
    });
}
