//! Says what each command still needs when it enters the sandbox.
//!
//! A command that reads recordings enters it before it reads the first byte. A measurement enters it when the eBPF programs are
//! attached and the command of `-- CMD` runs. `doctor` enters it when its checks are done, to show what is in force on this host.

use std::path::{Component, Path, PathBuf};

use super::global::GlobalOptions;
use crate::{
    host::{
        sandbox::{self, InForce, Measurement, Needs},
        vm_lister,
    },
    source::Live,
};

/// The files of a command that reads recordings.
#[derive(Debug, Default)]
pub(super) struct RecordingFiles {
    /// Recordings and other files that are read: files, directories and globs; `-` is stdin.
    pub(super) inputs: Vec<PathBuf>,
    /// Files and folders that are written; `-` is stdout.
    pub(super) outputs: Vec<PathBuf>,
}

/// Restricts this process to what reading recordings needs: these files, and no privilege.
pub(super) fn enter_to_read(files: RecordingFiles, global: GlobalOptions) {
    if !global.sandbox {
        return;
    }
    let RecordingFiles {
        inputs,
        mut outputs,
    } = files;
    // A recording in a pipe is stored in a temporary file if it has to be read twice.
    let is_stream = |it: &PathBuf| {
        let is_special = |it: std::fs::Metadata| !it.is_file() && !it.is_dir();
        it.as_os_str() == "-" || it.metadata().is_ok_and(is_special)
    };
    if inputs.iter().any(is_stream) {
        outputs.push(std::env::temp_dir());
    }
    enter(Needs {
        inputs: inputs.into_iter().map(without_wildcards).collect(),
        outputs,
        devices: vec!["/dev/tty".into()],
        stops_group: global.has_screen,
        measurement: None,
    });
}

/// Restricts this process to what a measurement needs whose programs are attached. `outputs` are the files that it writes.
pub(super) fn enter_to_measure(
    live: &mut Live,
    outputs: Vec<PathBuf>,
    has_command: bool,
    global: GlobalOptions,
) {
    if !global.sandbox {
        return;
    }
    enter(Needs {
        inputs: Vec::new(),
        outputs,
        devices: vec!["/dev/tty".into()],
        stops_group: global.has_screen,
        measurement: Some(Measurement {
            try_programs: &mut || live.try_access().is_ok(),
            // That needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and does not work with Landlock.
            lists_vms: vm_lister::shared().pid().is_none(),
            ends_command: has_command,
        }),
    });
}

/// Restricts this process as one that reads recordings, and returns what is in force.
pub(super) fn enter_to_show() -> &'static InForce {
    sandbox::enter(Needs::default())
}

fn enter(needs: Needs<'_>) {
    let in_force = sandbox::enter(needs);
    log::info!("sandbox: {}", in_force.to_text());
}

/// Returns the path of a file or directory, or the directory in which the files of a glob are found.
fn without_wildcards(path: PathBuf) -> PathBuf {
    if path.symlink_metadata().is_ok() {
        return path;
    }
    let has_wildcard = |it: &Component<'_>| {
        let name = it.as_os_str().to_string_lossy();
        name.contains(['*', '?', '[', '{'])
    };
    if !path.components().any(|it| has_wildcard(&it)) {
        return path;
    }
    let fixed: PathBuf = path
        .components()
        .take_while(|it| !has_wildcard(it))
        .collect();
    match fixed.as_os_str().is_empty() {
        true => Path::new(".").to_owned(),
        false => fixed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_read_in_their_directory() {
        for (given, expected) in [
            ("/proc/self/*", "/proc/self"),
            ("*.data", "."),
            ("a/b-?/c.data", "a"),
            ("/proc/self/comm", "/proc/self/comm"),
            ("missing.data", "missing.data"),
            ("-", "-"),
        ] {
            assert_eq!(
                without_wildcards(given.into()),
                Path::new(expected),
                "{given}"
            );
        }
    }
}
