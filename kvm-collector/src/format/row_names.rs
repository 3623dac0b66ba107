//! Names of VMs, vCPUs and keys, as reports show them.

use crate::view::ExitRow;
pub(super) use crate::view::with_known_name as with_name;

/// Returns the name of a VM, followed by the pid of its VMM unless the name ends with it. The pid is 0 for VMs that are merged.
pub(super) fn vm_name(name: &str, pid: u32) -> String {
    if pid == 0 || name.ends_with(&format!("-{pid}")) {
        name.to_owned()
    } else {
        format!("{name} (pid {pid})")
    }
}

/// Returns the index of a vCPU, or its thread's id if the index is not known.
pub(super) fn vcpu_name(vcpu: Option<u32>, tid: Option<u32>) -> Option<String> {
    vcpu.map(|index| index.to_string())
        .or_else(|| tid.map(|tid| format!("tid {tid}")))
}

/// Returns the key of a row, followed by its known name in parentheses.
pub(super) fn key_name(row: &ExitRow) -> Option<String> {
    let key = row.key.as_ref()?;
    Some(with_name(key, row.name.as_deref()))
}

/// Returns the name of a row: its host, VM, vCPU, exit reason and key, as far as it has them.
pub(super) fn row_name(row: &ExitRow) -> String {
    let vcpu = vcpu_name(row.vcpu, row.tid).map(|vcpu| format!("vCPU {vcpu}"));
    let names: Vec<_> = [
        row.host.clone(),
        row.vm.clone(),
        vcpu,
        row.reason.clone(),
        key_name(row),
    ]
    .into_iter()
    .flatten()
    .collect();
    if names.is_empty() {
        "all exits".into()
    } else {
        names.join(", ")
    }
}
