//! What a command still needs when it enters the sandbox.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use caps::Capability;
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    process::{geteuid, getuid},
};

use super::capabilities::{Task, is_effective};
use crate::output_file::{is_writable_by_others, written_directory};

/// What a command still needs.
#[derive(Default)]
#[cfg_attr(
    feature = "test-api",
    expect(
        missing_debug_implementations,
        reason = "functions do not implement Debug"
    )
)]
pub struct Needs<'a> {
    /// Files that are read, and directories that are read with everything in them. Those that do not exist are left out.
    pub inputs: Vec<PathBuf>,
    /// Outputs as [`crate::output_file`] creates them.
    pub outputs: Vec<PathBuf>,
    /// Devices that are read, written and controlled, such as the terminal.
    pub devices: Vec<PathBuf>,
    /// Whether Ctrl-Z stops the whole process group, of which `sudo` may be a part.
    pub stops_group: bool,
    /// What a measurement of the running kernel needs; `None` if a recording is read.
    pub measurement: Option<Measurement<'a>>,
}

/// What a measurement of the running kernel still needs.
#[cfg_attr(
    feature = "test-api",
    expect(
        missing_debug_implementations,
        reason = "functions do not implement Debug"
    )
)]
pub struct Measurement<'a> {
    /// Tries what is done with the eBPF programs from now on. Returns whether it works.
    pub try_programs: &'a mut dyn FnMut() -> bool,
    /// Whether the open files of other processes are read, to find VMs.
    pub lists_vms: bool,
    /// Whether a command has been started, which may have to be ended.
    pub ends_command: bool,
}

/// What every measurement reads: names and states of processes, whether KVM's modules are loaded, and the number of possible CPUs,
/// which aya needs for a map with a value per CPU.
const MEASUREMENT: [&str; 3] = ["/proc", "/sys/module", "/sys/devices/system/cpu"];

/// Random numbers for hash tables. Parquet's are from `getrandom` of the C library, but a program that is linked statically cannot
/// look that up when it runs. Then they are read from these devices.
const RANDOM_NUMBERS: [&str; 2] = ["/dev/random", "/dev/urandom"];

/// The files that remain accessible.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Files and directories that are read.
    pub(super) read: Vec<PathBuf>,
    /// Directories in which files are created, renamed and removed.
    pub(super) directories: Vec<PathBuf>,
    /// Files that exist and are written.
    pub(super) written: Vec<PathBuf>,
    /// Devices that are read, written and controlled.
    pub(super) devices: Vec<PathBuf>,
}

impl Needs<'_> {
    /// Returns the files that remain accessible.
    pub(super) fn files(&self) -> Files {
        let mut files = Files {
            read: self.inputs.clone(),
            devices: self.devices.clone(),
            ..Files::default()
        };
        files.read.extend(RANDOM_NUMBERS.map(PathBuf::from));
        if self.measurement.is_some() {
            files.read.extend(MEASUREMENT.map(PathBuf::from));
        }
        let entries = self.inputs.iter().flat_map(|it| with_entries(it));
        files.read.extend(entries.filter(|it| is_own_link(it)));
        for output in &self.outputs {
            match written_directory(output) {
                Ok(Some(directory)) => files.directories.push(directory),
                // The error is reported when the output is created.
                Ok(None) | Err(_) => files.written.push(output.clone()),
            }
        }
        // The progress line and the screen open the terminal again.
        for descriptor in ["/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"] {
            if fs::metadata(descriptor).is_ok_and(|it| it.file_type().is_char_device()) {
                files.devices.push(descriptor.into());
            }
        }
        files
    }

    /// Returns what the command does later that may need capabilities.
    pub(super) fn tasks(&mut self, files: &Files) -> Vec<Task<'_>> {
        let mut tasks = Vec::new();
        if getuid().is_root() {
            tasks.extend(self.file_tasks(files));
        }
        if let Some(measurement) = &mut self.measurement {
            tasks.extend(measurement.tasks());
        }
        tasks
    }

    /// Returns what is done with files. Only for root: another user whose binary has file capabilities must not read or write with
    /// them what the user cannot.
    fn file_tasks(&self, files: &Files) -> Vec<Task<'static>> {
        let mut tasks = Vec::new();
        let inputs = self.inputs.iter().flat_map(|it| with_entries(it));
        // What cannot be read now is not readable later either, such as a link without a target.
        let inputs: Vec<_> = inputs
            .filter(|it| is_accessible(it, Access::READ_OK))
            .collect();
        tasks.push(Task {
            works: Box::new(move || inputs.iter().all(|it| is_accessible(it, Access::READ_OK))),
            candidates: vec![Capability::CAP_DAC_READ_SEARCH],
        });
        for path in files.directories.clone() {
            let is_shared = has_files_of_others(&path);
            tasks.push(Task {
                works: Box::new(move || is_accessible(&path, Access::WRITE_OK | Access::EXEC_OK)),
                candidates: vec![Capability::CAP_DAC_OVERRIDE],
            });
            if is_shared {
                tasks.push(keep(Capability::CAP_FOWNER));
            }
        }
        for path in files.written.clone() {
            tasks.push(Task {
                works: Box::new(move || is_accessible(&path, Access::WRITE_OK)),
                candidates: vec![Capability::CAP_DAC_OVERRIDE],
            });
        }
        tasks
    }
}

impl Measurement<'_> {
    fn tasks(&mut self) -> Vec<Task<'_>> {
        // With the mount option `hidepid`, the names of processes of others are hidden.
        let is_named = || fs::read("/proc/1/comm").is_ok();
        let mut tasks = vec![Task {
            works: Box::new(is_named),
            candidates: vec![Capability::CAP_SYS_PTRACE],
        }];
        // The second one is of no use without the first one.
        if self.lists_vms && is_effective(Capability::CAP_SYS_PTRACE) {
            tasks.push(keep(Capability::CAP_SYS_PTRACE));
            tasks.push(keep(Capability::CAP_DAC_READ_SEARCH));
        }
        if self.ends_command {
            // The command may have another user by now.
            tasks.push(keep(Capability::CAP_KILL));
        }
        tasks.push(Task {
            works: Box::new(&mut self.try_programs),
            candidates: vec![Capability::CAP_BPF, Capability::CAP_SYS_ADMIN],
        });
        tasks
    }
}

/// Returns a task that keeps a capability if the process has it.
fn keep<'a>(capability: Capability) -> Task<'a> {
    Task {
        works: Box::new(move || is_effective(capability)),
        candidates: vec![capability],
    }
}

/// Returns a path, and what is in it if it is a directory: recordings, of which each may be a directory of perf.
fn with_entries(path: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|it| it.path()).collect::<Vec<_>>()
    };
    let recordings = entries(path);
    let files: Vec<_> = recordings.iter().flat_map(|it| entries(it)).collect();
    [vec![path.to_owned()], recordings, files].concat()
}

/// Returns whether a path is a symbolic link that no other user could have placed. What such links in a directory of recordings
/// lead to is read too.
fn is_own_link(path: &Path) -> bool {
    path.is_symlink()
        && path
            .parent()
            .is_some_and(|it| is_writable_by_others(it).is_ok_and(|it| !it))
}

/// Returns whether the effective capabilities permit to access a file.
fn is_accessible(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// Returns whether a directory may have files that this user must not rename or remove.
fn has_files_of_others(directory: &Path) -> bool {
    let is_sticky =
        |it: fs::Metadata| it.mode() & libc::S_ISVTX != 0 && it.uid() != geteuid().as_raw();
    fs::metadata(directory).is_ok_and(is_sticky)
}
