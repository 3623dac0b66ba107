//! Describes what could be selected, as the end of an error message.

use std::path::Path;

use crate::{
    host::{
        self,
        vm::{Vm, VmList},
    },
    outside_text::OutsideText,
    source::RecordedProcess,
    tracefs::{did_you_mean, similar_names},
};

/// Returns the names that are similar to a pattern for VM names, as `: did you mean ...?`.
pub(super) fn similar_vms<'a>(names: impl Iterator<Item = &'a str>, pattern: &str) -> String {
    did_you_mean(&similar_names(names, pattern))
}

/// Describes the running VMs, as the end of a sentence.
pub(super) fn describe_running_vms() -> String {
    match host::vm::list(Path::new("/proc")) {
        Ok(list) if list.vms.is_empty() => ": no VM is running".into(),
        Ok(VmList { vms, .. }) => describe_vms(&vms),
        Err(_) => String::new(),
    }
}

/// Says that a process runs no VM, and which VMs run. If there are none, the message at the end of the measurement says so.
pub(super) fn describe_other_process(pid: u32, comm: &str, vms: &[Vm]) -> String {
    let running = match vms {
        [] => String::new(),
        vms => describe_vms(vms),
    };
    format!("process {pid} ({comm}) runs no VM{running}")
}

fn describe_vms(vms: &[Vm]) -> String {
    let names: Vec<_> = vms
        .iter()
        .take(8)
        .map(|vm| describe(&vm.name, vm.tgid))
        .collect();
    let more = if vms.len() > 8 { ", ..." } else { "" };
    format!("; running VMs: {}{more}", names.join(", "))
}

fn describe(name: &str, pid: u32) -> String {
    format!("{} (pid {pid})", OutsideText::new(name).as_name())
}

/// Describes the VMs among the processes of a recording.
pub(super) fn describe_recorded_vms(seen: &[RecordedProcess]) -> String {
    let vms: Vec<_> = seen.iter().filter(|it| it.is_vm).collect();
    if vms.is_empty() {
        return "it has no events of VMs".to_owned();
    }
    let names: Vec<_> = vms
        .iter()
        .take(8)
        .map(|it| describe(&it.vm.name, it.pid))
        .collect();
    let more = if vms.len() > 8 { ", ..." } else { "" };
    format!("it has events of {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_vm_is_named_with_the_running_vms() {
        let none = describe_other_process(1, "init", &[]);
        assert_eq!(none, "process 1 (init) runs no VM");
        let vm = Vm {
            name: "web-1".to_owned(),
            uuid: None,
            vmm: String::new(),
            tgid: 7,
            vcpus: Vec::new(),
        };
        let some = describe_other_process(1, "init", &[vm]);
        assert_eq!(
            some,
            "process 1 (init) runs no VM; running VMs: web-1 (pid 7)"
        );
    }

    #[test]
    fn misspelt_vms_get_similar_names() {
        let similar = |pattern| similar_vms(["web-1", "db"].into_iter(), pattern);
        assert_eq!(similar("wbe-1"), ": did you mean web-1?");
        assert_eq!(similar("mail*"), "");
    }
}
