//! The section of VMs without exits.

use std::io::{self, Write};

use super::{
    style::TextStyle,
    wrap::{write_indented, write_title},
};
use crate::{
    host::{IdleVcpu, IdleVm},
    outside_text::OutsideText,
};

/// Writes which VMs made no exits, and what their vCPUs do. Writes nothing if there are none.
pub(super) fn write_idle_vms(
    vms: &[IdleVm],
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    if vms.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    write_title("VMs without exits", style, out)?;
    for vm in vms {
        let text = format!(
            "{} (pid {}): {}",
            OutsideText::new(&vm.vm).as_name(),
            vm.pid,
            describe(&vm.vcpus)
        );
        write_indented(&text, "    ", style, out)?;
    }
    Ok(())
}

/// Describes vCPUs, those that do the same together: `vCPUs 0, 1 halted; vCPU 2 running in the guest`.
fn describe(vcpus: &[IdleVcpu]) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for vcpu in vcpus {
        let name = match vcpu.vcpu {
            Some(index) => index.to_string(),
            None => format!("of thread {}", vcpu.tid),
        };
        let state = vcpu.state.text();
        match groups.iter_mut().find(|group| group.0 == state) {
            Some(group) => group.1.push(name),
            None => groups.push((state, vec![name])),
        }
    }
    if groups.is_empty() {
        return "no vCPU thread was found".to_owned();
    }
    let texts: Vec<_> = groups
        .iter()
        .map(|(state, names)| {
            let noun = if names.len() == 1 { "vCPU" } else { "vCPUs" };
            format!("{noun} {} {state}", names.join(", "))
        })
        .collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::VcpuActivity;

    #[test]
    fn vcpus_in_one_state_are_described_together() {
        let vcpu = |vcpu, state| IdleVcpu {
            vcpu,
            tid: 9,
            state,
        };
        let vcpus = [
            vcpu(Some(0), VcpuActivity::Halted),
            vcpu(Some(1), VcpuActivity::InGuest),
            vcpu(Some(2), VcpuActivity::Halted),
            vcpu(None, VcpuActivity::Stopped),
        ];
        let vm = IdleVm {
            vm_uuid: None,
            vm: "web".to_owned(),
            pid: 7,
            vcpus: vcpus.to_vec(),
        };
        let mut out = Vec::new();
        write_idle_vms(&[vm], TextStyle::default(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\n  VMs without exits\n    web (pid 7): vCPUs 0, 2 halted; vCPU 1 running in the guest; vCPU of thread 9 stopped by a signal\n"
        );
        assert_eq!(describe(&[]), "no vCPU thread was found");
    }
}
