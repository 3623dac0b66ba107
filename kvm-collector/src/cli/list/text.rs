//! The text output of `list`.

use std::io::{self, Write};

use super::listing::Listing;
use crate::{
    format::{
        text::{TextStyle, write_hanging, write_heading, write_period},
        units::plural,
    },
    host::{Vcpu, vm::VmList},
    model::VmUuid,
    outside_text::OutsideText,
};

/// Writes all subjects of a listing, with an empty line between them.
pub(super) fn write(listing: &Listing, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    if let Some(recording) = &listing.recording {
        let origin = &recording.origin;
        write_heading(what(listing), origin, style, out)?;
        match recording.period_ns {
            Some(period_ns) => write_period(origin, period_ns, false, style, out)?,
            None => writeln!(out)?,
        }
    }
    let mut is_first = true;
    let mut heading = |out: &mut dyn Write, text: &str| {
        let separator = if std::mem::take(&mut is_first) {
            ""
        } else {
            "\n"
        };
        write!(out, "{separator}")?;
        write_hanging("", text, "  ", style, out)
    };
    if let Some(events) = &listing.events {
        heading(out, &format!("{}:", plural(events.len() as u64, "event")))?;
        let rows = events
            .iter()
            .map(|it| [it.event.clone(), it.field_names.join(" ")]);
        write_columns(rows.collect(), style, out)?;
    }
    if let Some(VmList { vms, unreadable }) = &listing.vms {
        let none = match unreadable {
            0 => "no VM was found: `kvm-collector guest` runs a small one",
            _ => "no VM was found:",
        };
        heading(out, &vms_heading(vms.len(), none))?;
        if *unreadable > 0 {
            let processes = plural(u64::from(*unreadable), "process");
            let text = format!("({processes} cannot be read: run as root to list all VMs)");
            write_hanging("  ", &text, "    ", style, out)?;
        }
        for vm in vms {
            let (vmm, uuid) = (OutsideText::new(&vm.vmm), uuid_text(vm.uuid));
            let name = OutsideText::new(&vm.name).as_name();
            let text = format!("{name} (pid {}, {vmm}{uuid})", vm.tgid);
            write_hanging("  ", &text, "    ", style, out)?;
            write_vcpus(&vm.vcpus, out)?;
        }
    }
    if let Some(vms) = &listing.recorded_vms {
        let none = "no VM has selected events in this recording: `kvm-collector stat` with the same -i counts all of its events";
        heading(out, &vms_heading(vms.len(), none))?;
        for vm in vms {
            let name = OutsideText::new(&vm.vm).as_name();
            let (uuid, events) = (uuid_text(vm.vm_uuid), plural(vm.count, "event"));
            let text = format!("{name} (pid {}{uuid}): {events}", vm.pid);
            write_hanging("  ", &text, "    ", style, out)?;
            write_vcpus(&vm.vcpus, out)?;
        }
    }
    if let Some(reasons) = &listing.reasons {
        heading(
            out,
            &format!("{}:", plural(reasons.len() as u64, "exit reason")),
        )?;
        let rows = reasons.iter().map(|it| {
            let code = format!("{:#x}", it.reason_code);
            [format!("{} {code:>10}", it.isa), it.reason.clone()]
        });
        write_columns(rows.collect(), style, out)?;
    }
    if let Some(kinds) = &listing.kinds {
        heading(
            out,
            "kinds (or the field of any kvm event, such as kvm_eoi.vector):",
        )?;
        let rows = kinds.iter().map(|it| {
            let event = format!("{} by {}", it.event, it.field_names.join(" and "));
            [it.kind.clone(), event]
        });
        write_columns(rows.collect(), style, out)?;
    }
    Ok(())
}

/// Returns the heading of VMs, or `none` if there are none.
fn vms_heading(vms: usize, none: &str) -> String {
    match vms {
        0 => none.to_owned(),
        number => format!("{}:", plural(number as u64, "VM")),
    }
}

/// Returns what a recording's listing shows.
fn what(listing: &Listing) -> &'static str {
    match listing {
        Listing {
            events: Some(_),
            recorded_vms: Some(_),
            ..
        } => "events and VMs",
        Listing {
            events: Some(_), ..
        } => "events",
        Listing {
            recorded_vms: Some(_),
            ..
        } => "VMs",
        Listing {
            reasons: Some(_), ..
        } => "exit reasons",
        _ => "kinds",
    }
}

/// Returns a UUID with a comma in front; empty if it is unknown.
fn uuid_text(uuid: Option<VmUuid>) -> String {
    uuid.map_or_else(String::new, |uuid| format!(", uuid {uuid}"))
}

/// Writes the vCPUs of a VM.
fn write_vcpus(vcpus: &[Vcpu], out: &mut impl Write) -> io::Result<()> {
    for vcpu in vcpus {
        let index = vcpu.index.map_or("?".into(), |index| index.to_string());
        let comm = OutsideText::new(&vcpu.comm);
        writeln!(out, "    vCPU {index}  tid {}  {comm}", vcpu.tid)?;
    }
    Ok(())
}

/// Writes two columns, indented. Text of the second one that does not fit continues below it.
fn write_columns(rows: Vec<[String; 2]>, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    let widths = rows.iter().map(|row| OutsideText::new(&row[0]).width());
    let width = widths.max().unwrap_or(0);
    let below = " ".repeat(width + 4);
    for [first, second] in &rows {
        let first = OutsideText::new(first);
        write_hanging(&format!("  {first:width$}  "), second, &below, style, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::list::listing::Event, host::vm::Vm, view::OutputHeader};

    fn empty_listing() -> Listing {
        Listing::new(OutputHeader::default())
    }

    fn written(listing: &Listing) -> String {
        let mut out = Vec::new();
        write(listing, TextStyle::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_of_running_vms_are_harmless() {
        let listing = Listing {
            vms: Some(VmList {
                vms: vec![Vm {
                    tgid: 100,
                    name: "a\x1b[2J\n".to_owned() + &"x".repeat(4096),
                    uuid: None,
                    vmm: "q\u{202e}".into(),
                    vcpus: vec![Vcpu {
                        index: Some(0),
                        tid: 101,
                        comm: "\rCPU".into(),
                    }],
                }],
                unreadable: 0,
            }),
            ..empty_listing()
        };
        let name = format!(r"a\x1b[2J\n{}...", "x".repeat(51));
        assert_eq!(
            written(&listing),
            format!("1 VM:\n  {name} (pid 100, q\\u{{202e}})\n    vCPU 0  tid 101  \\rCPU\n")
        );
    }

    #[test]
    fn a_host_and_a_recording_without_vms_have_no_empty_table() {
        let host = |unreadable| Listing {
            vms: Some(VmList {
                vms: Vec::new(),
                unreadable,
            }),
            ..empty_listing()
        };
        let none = written(&host(0));
        assert!(
            none.starts_with("no VM was found: `kvm-collector guest`"),
            "{none}"
        );
        let unknown = written(&host(3));
        assert!(
            unknown.contains("no VM was found") && unknown.contains("run as root"),
            "{unknown}"
        );
        let recording = Listing {
            recorded_vms: Some(Vec::new()),
            ..empty_listing()
        };
        let none = written(&recording);
        assert!(
            none.contains("in this recording: `kvm-collector stat` with the same -i"),
            "{none}"
        );
    }

    #[test]
    fn columns_are_aligned_by_width() {
        let event = |name: &str| Event {
            event: name.to_owned(),
            field_names: vec!["a".to_owned(), "b\x07".to_owned()],
        };
        let listing = Listing {
            events: Some(vec![event("kvm:データ"), event("kvm:kvm_entry")]),
            ..empty_listing()
        };
        assert_eq!(
            written(&listing),
            "2 events:\n  kvm:データ     a b\\x07\n  kvm:kvm_entry  a b\\x07\n"
        );
    }
}
