//! Names of VMs, vCPUs and keys, as reports show them.

use std::borrow::Cow;

pub(super) use crate::view::with_known_name as with_name;
use crate::{model::VMEXIT, outside_text::OutsideText, view::ExitRow};

/// Turns a name of a host or VM into what a report shows.
pub(super) type NameStyle = fn(&str) -> Cow<'_, str>;

/// Returns the whole name, for formats that encode it.
pub(super) fn exact(name: &str) -> Cow<'_, str> {
    Cow::Borrowed(name)
}

/// Returns the name as text shows it.
pub(super) fn as_text(name: &str) -> Cow<'_, str> {
    OutsideText::new(name).as_name()
}

/// Returns the name of a VM, followed by the pid of its VMM unless the name ends with it. The pid is 0 for VMs that are merged.
pub(super) fn vm_name(name: &str, pid: u32, style: NameStyle) -> String {
    let name = style(name);
    if pid == 0 || name.ends_with(&format!("-{pid}")) {
        name.into_owned()
    } else {
        format!("{name} (pid {pid})")
    }
}

/// Returns what the rows of a report count: an `exit`, or with another `kind` an `event`.
pub(super) fn counted_unit(kind: &str) -> &'static str {
    if kind == VMEXIT { "exit" } else { "event" }
}

/// Returns the index of a vCPU, or its thread's id if the index is not known.
pub(super) fn vcpu_name(vcpu: Option<u32>, tid: Option<u32>) -> Option<String> {
    vcpu.map(|index| index.to_string())
        .or_else(|| tid.map(|tid| format!("tid {tid}")))
}

/// Returns the key of a row, followed by its known name in parentheses.
pub(super) fn key_name(row: &ExitRow) -> Option<String> {
    let key = row.key.as_ref()?;
    Some(with_name(key, row.key_name.as_deref()))
}

/// Returns the name of a row: its host, VM, vCPU, exit reason and key, as far as it has them.
pub(super) fn row_name(row: &ExitRow, style: NameStyle) -> String {
    let vcpu = vcpu_name(row.vcpu, row.tid).map(|vcpu| format!("vCPU {vcpu}"));
    row_name_with(row, vcpu, style)
}

/// Returns the name of a row without its vCPU.
pub(super) fn row_name_of_all_vcpus(row: &ExitRow, style: NameStyle) -> String {
    row_name_with(row, None, style)
}

fn row_name_with(row: &ExitRow, vcpu: Option<String>, style: NameStyle) -> String {
    let host = row.host.as_ref().map(|it| style(it.label()).into_owned());
    let vm = row.vm.as_deref();
    let vm = vm.map(|vm| vm_name(vm, row.pid.unwrap_or(0), style));
    let names: Vec<_> = [host, vm, vcpu, row.reason.clone(), key_name(row)]
        .into_iter()
        .flatten()
        .collect();
    if names.is_empty() {
        "all exits".into()
    } else {
        names.join(", ")
    }
}
