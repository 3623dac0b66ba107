//! Names of VMs, with their UUIDs. A name is read while the process lives and stored beyond its end.

use std::collections::{HashMap, VecDeque};

use super::{VmName, VmUuid, next_process_id, pid_of, process, vm, vm_name};

/// Maximum number of names, at about 120 bytes each. Above it, names of ended processes are discarded,
/// the oldest first.
const MAX_NAMES: usize = 65_536;

/// Names of VMs by process identity.
#[derive(Debug, Default)]
pub struct VmNames {
    /// By [`process_id`](super::process_id()).
    processes: HashMap<u32, Process>,
    /// Identity of the latest process with a pid, if the pid was reused.
    reused: HashMap<u32, u32>,
    /// Process identities in the order of insertion.
    order: VecDeque<u32>,
    /// The command that the collector runs: its pid, and the name of the VM if it is a VMM.
    command: Option<(u32, VmName)>,
}

/// A process that runs a VM.
#[derive(Debug)]
struct Process {
    name: VmName,
    /// Start time in clock ticks since boot; `None` if the process ended before it could be read.
    start_ticks: Option<u64>,
    /// Whether it is a thread of the kernel, which is no VM. Events of KVM happen in it too, for example when it reclaims memory.
    is_kernel_thread: bool,
}

impl VmNames {
    /// Sets the process id and the arguments of the command that the collector runs. The name of its VM then is
    /// known even if the command ends before its command line is read.
    pub fn set_command(&mut self, pid: u32, command: &[String]) {
        self.command = vm_name::of_command(command, pid).map(|name| (pid, name));
    }

    /// Adds the process that currently has a pid, if it is new, and returns its
    /// [`process_id`](super::process_id()). `comm`, the name of one of its threads, becomes the name of a
    /// process that has already ended.
    pub fn add_process(&mut self, pid: u32, comm: Option<&str>) -> u32 {
        let start_ticks = process::start_ticks(pid);
        let mut id = self.latest(pid);
        if let Some(known) = self.processes.get(&id) {
            // The start time of an ended process is unknown. Assume it is the stored one: the kernel
            // reuses pids late.
            if start_ticks.is_none() || known.start_ticks == start_ticks {
                return id;
            }
            id = next_process_id(id);
        }
        let name = start_ticks.and_then(|_| vm::name_of(pid));
        // Discard the name if the pid was reused while the name was read.
        let name = name.filter(|_| process::start_ticks(pid) == start_ticks);
        let command = self.command.as_ref().filter(|(command, _)| *command == pid);
        let name = name.or_else(|| command.map(|(_, name)| name.clone()));
        let Some(name) = name.or_else(|| comm.map(|comm| format!("{comm}-{pid}").into())) else {
            return id;
        };
        if id != pid {
            self.reused.insert(pid, id);
        }
        let process = Process {
            name,
            start_ticks,
            is_kernel_thread: start_ticks.is_some() && process::is_kernel_thread(pid),
        };
        if self.processes.insert(id, process).is_none() {
            self.order.push_back(id);
            self.evict_ended();
        }
        id
    }

    /// Returns the number of processes with a name.
    #[must_use]
    pub fn count(&self) -> usize {
        self.processes.len()
    }

    /// Returns the [`process_id`](super::process_id()) of the latest process with a pid.
    #[must_use]
    pub fn latest(&self, pid: u32) -> u32 {
        self.reused.get(&pid).copied().unwrap_or(pid)
    }

    /// Returns the stored name of the process that has a pid now, or of the latest one if that has ended.
    #[must_use]
    pub fn current_name(&self, pid: u32) -> Option<&VmName> {
        let known = self.processes.get(&self.latest(pid))?;
        let started = process::start_ticks(pid);
        let is_same =
            started.is_none() || known.start_ticks.is_none() || known.start_ticks == started;
        is_same.then_some(&known.name)
    }

    /// Discards the oldest ended processes while there are too many.
    fn evict_ended(&mut self) {
        // Each live process is checked once and moves to the end of the order.
        for _ in 0..self.order.len() {
            if self.processes.len() <= MAX_NAMES {
                return;
            }
            let Some(id) = self.order.pop_front() else {
                return;
            };
            let started = self.processes.get(&id).and_then(|it| it.start_ticks);
            if started.is_some() && process::start_ticks(pid_of(id)) == started {
                self.order.push_back(id);
            } else {
                self.processes.remove(&id);
                // Its counts are still stored under this identity, so a new process needs another one.
                self.reused.insert(pid_of(id), next_process_id(id));
            }
        }
    }

    /// Inserts a name that was read elsewhere for the latest process with a pid.
    pub fn insert_name(&mut self, pid: u32, name: VmName) {
        let mut id = self.latest(pid);
        if self.processes.get(&id).is_some_and(|it| it.name != name) {
            id = next_process_id(id);
            self.reused.insert(pid, id);
        }
        let process = Process {
            name,
            start_ticks: None,
            is_kernel_thread: false,
        };
        if self.processes.insert(id, process).is_none() {
            self.order.push_back(id);
            self.evict_ended();
        }
    }

    /// Formats one line per process: pid, tab, name; and tab, UUID if it is known.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut lines: Vec<_> = self.processes.iter().collect();
        lines.sort_by_key(|(id, _)| **id);
        lines
            .iter()
            .map(|(id, it)| {
                let VmName { name, uuid } = &it.name;
                let uuid = uuid.map_or_else(String::new, |uuid| format!("\t{uuid}"));
                format!(
                    "{}\t{}{uuid}\n",
                    pid_of(**id),
                    name.replace(['\n', '\t'], " ")
                )
            })
            .collect()
    }

    /// Parses the lines of [`VmNames::to_lines`]; skips invalid ones.
    #[must_use]
    pub fn from_lines(text: &str) -> Self {
        let line = |line: &str| {
            // Earlier versions write no UUID; later ones may write more fields.
            let mut fields = line.split('\t');
            let (tgid, name) = (fields.next()?, fields.next()?);
            let process = Process {
                name: VmName {
                    name: name.to_owned(),
                    uuid: fields.next().and_then(VmUuid::parse),
                },
                start_ticks: None,
                is_kernel_thread: false,
            };
            let tgid = tgid.parse().ok()?;
            // The identity of a process whose pid was reused is no pid.
            (pid_of(tgid) == tgid).then_some((tgid, process))
        };
        Self {
            // A name may end with a carriage return, which `str::lines` would remove.
            processes: text.split('\n').filter_map(line).collect(),
            ..Self::default()
        }
    }

    /// Returns the name of a process, if it is stored.
    #[must_use]
    pub fn find_name(&self, tgid: u32) -> Option<&VmName> {
        self.processes.get(&tgid).map(|it| &it.name)
    }

    /// Returns whether a process is a thread of the kernel, which is no VM.
    #[must_use]
    pub fn is_kernel_thread(&self, tgid: u32) -> bool {
        self.processes
            .get(&tgid)
            .is_some_and(|it| it.is_kernel_thread)
    }

    /// Returns the name of a process, or `?` if it ended before its name could be read. Process 0
    /// stands for the merged VMs that ended earlier.
    #[must_use]
    pub fn display_name(&self, tgid: u32) -> VmName {
        if tgid == 0 {
            return "VMs that ended earlier".into();
        }
        let known = self.find_name(tgid);
        known.cloned().unwrap_or_else(VmName::unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The highest possible pid (`PID_MAX_LIMIT` is 2^22), which no process has.
    const UNUSED_PID: u32 = (1 << 22) - 1;

    #[test]
    fn an_ended_process_is_named_after_its_thread() {
        let mut names = VmNames::default();
        assert_eq!(names.add_process(UNUSED_PID, None), UNUSED_PID);
        assert_eq!(names.display_name(UNUSED_PID).name, "?");
        assert_eq!(names.add_process(UNUSED_PID, Some("CPU 0/KVM")), UNUSED_PID);
        assert_eq!(
            names.display_name(UNUSED_PID).name,
            format!("CPU 0/KVM-{UNUSED_PID}")
        );
        assert_eq!(names.add_process(UNUSED_PID, Some("other")), UNUSED_PID);
    }

    #[test]
    fn kernel_threads_are_recognized() {
        let mut names = VmNames::default();
        let own = std::process::id();
        names.add_process(own, None);
        assert!(!names.is_kernel_thread(own));
        // Process 2 is kthreadd, except in a container.
        if process::is_kernel_thread(2) {
            names.add_process(2, None);
            assert!(names.is_kernel_thread(2));
        }
    }

    #[test]
    fn the_vm_of_an_ended_command_has_the_name_of_its_arguments() {
        let mut names = VmNames::default();
        let command = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        names.set_command(UNUSED_PID, &command(&["/bin/vmm", "--name", "web-1"]));
        names.add_process(UNUSED_PID, Some("CPU 0/KVM"));
        assert_eq!(names.display_name(UNUSED_PID), "web-1".into());
        names.add_process(UNUSED_PID - 1, None);
        assert_eq!(names.display_name(UNUSED_PID - 1), VmName::unknown());
        names.set_command(UNUSED_PID - 2, &command(&["/bin/vmm", "run"]));
        names.add_process(UNUSED_PID - 2, None);
        let name = format!("vmm-{}", UNUSED_PID - 2);
        assert_eq!(names.display_name(UNUSED_PID - 2).name, name);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = std::process::id();
        let mut names = VmNames::default();
        let process = Process {
            name: "before".into(),
            start_ticks: Some(1),
            is_kernel_thread: false,
        };
        names.processes.insert(own, process);
        assert_eq!(names.latest(own), own);
        assert_eq!(
            names.current_name(own),
            None,
            "the stored name belongs to an earlier process"
        );
        let id = names.add_process(own, Some("thread"));
        assert_ne!(id, own);
        assert_eq!((pid_of(id), names.latest(own)), (own, id));
        assert_ne!(names.display_name(id).name, "before");
        assert_eq!(names.current_name(own), names.find_name(id));
        assert_eq!(names.display_name(own).name, "before");
        assert_eq!(names.add_process(own, Some("thread")), id);
    }

    #[test]
    fn a_uuid_is_an_optional_field_of_a_line() {
        const UUID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
        let mut names = VmNames::default();
        let web = VmName {
            name: "web\t1".to_owned(),
            uuid: VmUuid::parse(UUID),
        };
        names.insert_name(7, web);
        names.insert_name(8, "db".into());
        let lines = names.to_lines();
        assert_eq!(lines, format!("7\tweb 1\t{UUID}\n8\tdb\n"));
        let read = VmNames::from_lines(&lines);
        assert_eq!(read.to_lines(), lines);
        assert_eq!(read.display_name(7).uuid, VmUuid::parse(UUID));
        // A third field that is not a UUID, and a field of a later version.
        let read = VmNames::from_lines(&format!("7\tweb\tx\n8\tdb\t{UUID}\tnew\nx\ty\n"));
        let too_large = VmNames::from_lines("2888888888\tdb\n");
        assert_eq!(too_large.count(), 0);
        assert_eq!(read.to_lines(), format!("7\tweb\n8\tdb\t{UUID}\n"));
    }

    #[test]
    fn a_reused_pid_keeps_the_uuid_of_its_latest_process() {
        let mut names = VmNames::default();
        let uuid = VmUuid::parse("1b4e28ba-2fa1-11d2-883f-0016d3cca427");
        let web = |uuid| VmName {
            name: "web".to_owned(),
            uuid,
        };
        names.insert_name(7, web(uuid));
        names.insert_name(7, web(None));
        let latest = names.latest(7);
        assert_ne!(latest, 7);
        assert_eq!(names.display_name(7), web(uuid));
        assert_eq!(names.display_name(latest), web(None));
        assert_eq!(
            VmNames::from_lines(&names.to_lines()).display_name(7),
            web(None)
        );
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut names = VmNames::default();
        let own = std::process::id();
        names.add_process(own, None);
        for pid in (1 << 21)..(1 << 21) + 2 * u32::try_from(MAX_NAMES).unwrap() {
            if process::start_ticks(pid).is_none() {
                names.add_process(pid, Some("gone"));
            }
        }
        assert!(names.processes.len() <= MAX_NAMES && names.order.len() <= MAX_NAMES);
        assert!(names.find_name(own).is_some(), "a live process stays");
    }
}
