//! Describes what could be selected, as the end of an error message.

use crate::{
    bounds::join_first,
    host::vm::Vm,
    outside_text::OutsideText,
    source::RecordedProcess,
    tracefs::{did_you_mean, similar_names},
};

/// How many VMs a message names.
const MAX_NAMES: usize = 8;

/// Returns the names that are similar to a pattern for VM names, as `: did you mean ...?`.
pub(super) fn similar_vms<'a>(names: impl Iterator<Item = &'a str>, pattern: &str) -> String {
    did_you_mean(&similar_names(names, pattern))
}

/// Describes the running VMs, as the end of a sentence. They are `None` if they cannot be listed.
pub(super) fn describe_running_vms(vms: Option<&[Vm]>) -> String {
    match vms {
        None => String::new(),
        Some([]) => ": no VM is running".into(),
        Some(vms) => format!("; running VMs: {}", names(vms.iter().map(running))),
    }
}

/// Says that a process runs no VM, and which VMs run. If there are none, the message at the end of the measurement says so.
pub(super) fn describe_other_process(pid: u32, comm: &str, vms: &[Vm]) -> String {
    let running = describe_running_vms((!vms.is_empty()).then_some(vms));
    format!("process {pid} ({comm}) runs no VM{running}")
}

/// Describes the VMs among the processes of a recording.
pub(super) fn describe_recorded_vms(seen: &[RecordedProcess]) -> String {
    let vms = seen.iter().filter(|it| it.is_vm);
    match names(vms.map(|it| (&*it.vm.name, it.pid))) {
        none if none.is_empty() => "it has no events of VMs".to_owned(),
        names => format!("it has events of {names}"),
    }
}

fn running(vm: &Vm) -> (&str, u32) {
    (&vm.name, vm.tgid)
}

/// Returns the first of some VMs, which have a name and a process id.
fn names<'a>(vms: impl Iterator<Item = (&'a str, u32)>) -> String {
    let describe = |(name, pid)| format!("{} (pid {pid})", OutsideText::new(name).as_name());
    join_first(vms.map(describe), MAX_NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(tgid: u32) -> Vm {
        Vm {
            name: "web-1".to_owned(),
            uuid: None,
            vmm: String::new(),
            tgid,
            vcpus: Vec::new(),
        }
    }

    #[test]
    fn the_first_running_vms_are_named() {
        assert_eq!(describe_running_vms(None), "");
        assert_eq!(describe_running_vms(Some(&[])), ": no VM is running");
        let vms: Vec<_> = (1..=9).map(vm).collect();
        let eight = describe_running_vms(Some(&vms[..8]));
        assert!(eight.ends_with("web-1 (pid 8)"), "{eight}");
        assert_eq!(describe_running_vms(Some(&vms)), format!("{eight}, ..."));
    }

    #[test]
    fn a_process_without_a_vm_is_named_with_the_running_vms() {
        let none = describe_other_process(1, "init", &[]);
        assert_eq!(none, "process 1 (init) runs no VM");
        let some = describe_other_process(1, "init", &[vm(7)]);
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
