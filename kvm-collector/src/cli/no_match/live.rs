//! Says why the result of a live measurement is empty.
//!
//! The eBPF programs do not count what they leave out, because that would cost time on every event. What is
//! known instead: the running VMs and vCPUs, and exits that were timed but are not shown.

use kvm_ebpf_common::VCPU_UNKNOWN;

use super::request::{Request, Requested, explain_reasons, list};
use crate::{
    cli::selection::{Subject, TargetOption},
    format::units::plural,
    host::{
        self, Vcpu, namespaces,
        vm::{Vm, VmList},
    },
    outside_text::OutsideText,
};

const DOCTOR: &str = "`kvm-collector doctor` checks whether this host reports events of KVM";

/// Returns a message that says why nothing matched. `unselected` has the names and numbers of exit reasons
/// that occurred but are not selected.
pub(in crate::cli) fn explain(request: &Request<'_>, unselected: &[(String, u64)]) -> String {
    let has_foreign_ids = namespaces::check_kernel_ids().is_err();
    let list = (!has_foreign_ids).then(|| host::vm_lister::shared().list().ok());
    explain_with(request, unselected, list.flatten().as_ref())
}

fn explain_with(
    request: &Request<'_>,
    unselected: &[(String, u64)],
    running: Option<&VmList>,
) -> String {
    let name = request.requested.name();
    if let Some(text) = explain_reasons(request, unselected) {
        return text;
    }
    let options = request.option_texts();
    let Some(VmList { vms, unreadable }) = running else {
        return match options.is_empty() {
            true => format!("no {name}: {DOCTOR}"),
            false => format!("no {name} matched {}: {DOCTOR}", options.join(" ")),
        };
    };
    let targets = request.target.options();
    let without_match: Vec<_> = targets.iter().filter(|it| !selects_any(it, vms)).collect();
    if let Some(option) = without_match.iter().find(|it| it.is_by_process()) {
        // A warning at the start has named the running VMs.
        return format!("no {name}: {} selects no running VM", option.text);
    }
    if vms.is_empty() {
        let unreadable = match unreadable {
            0 => String::new(),
            number => format!(
                " ({} could not be read)",
                plural(u64::from(*number), "process")
            ),
        };
        return format!("no {name}: no VM is running on this host{unreadable}");
    }
    if !without_match.is_empty() {
        let texts: Vec<_> = without_match.iter().map(|it| it.text.as_str()).collect();
        return format!(
            "no {name} matched {}, which selects none of the running vCPUs: {}",
            texts.join(" or "),
            describe(vms)
        );
    }
    let running = format!(
        "{} running ({})",
        match vms.len() {
            1 => "1 VM is".to_owned(),
            number => format!("{number} VMs are"),
        },
        describe(vms)
    );
    if let Requested::Kind(kind) = &request.requested {
        return format!(
            "no {name}: {running}; without --kind {}, `kvm-collector exits` shows which exits occur",
            kind.name
        );
    }
    match options.is_empty() {
        true => format!("no {name}: {running}; {DOCTOR}"),
        false => format!(
            "no {name} matched {}: {running}; run without {} to see what occurs",
            options.join(" "),
            if options.len() == 1 { "it" } else { "them" }
        ),
    }
}

/// Returns whether an option selects a running vCPU. If no thread of a VM is known to run a vCPU, only its process
/// is compared.
fn selects_any(option: &TargetOption, vms: &[Vm]) -> bool {
    vms.iter().any(|vm| {
        let name = vm.identity();
        let subject = |tid, vcpu: Option<u32>| Subject {
            pid: vm.tgid,
            tid,
            vcpu: vcpu.unwrap_or(VCPU_UNKNOWN),
            vm: &name,
        };
        let has_unknown = vm.vcpus.is_empty() || vm.vcpus.iter().any(|it| it.index.is_none());
        let mut vcpus = vm.vcpus.iter();
        vcpus.any(|it| option.selects(subject(it.tid, it.index)))
            || option.selects(subject(0, None))
            // A vCPU whose index or thread is not known may be selected.
            || (has_unknown && !option.is_by_process())
    })
}

/// Describes VMs: `web-1 (pid 100, vCPUs 0-1)`.
fn describe(vms: &[Vm]) -> String {
    let names: Vec<_> = vms
        .iter()
        .map(|vm| {
            let vcpus = describe_vcpus(&vm.vcpus);
            let name = OutsideText::new(&vm.name).as_name();
            format!("{name} (pid {}, {vcpus})", vm.tgid)
        })
        .collect();
    list(&names)
}

/// Describes vCPUs by their indices if they are known and in one range: `vCPUs 0-1`.
fn describe_vcpus(vcpus: &[Vcpu]) -> String {
    let mut indices: Vec<_> = vcpus.iter().filter_map(|it| it.index).collect();
    indices.sort_unstable();
    match (indices.first(), indices.last()) {
        (Some(first), Some(last)) if first == last && vcpus.len() == 1 => format!("vCPU {first}"),
        (Some(first), Some(last)) if (last - first) as usize + 1 == vcpus.len() => {
            format!("vCPUs {first}-{last}")
        }
        _ => plural(vcpus.len() as u64, "vCPU"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        cli::selection::{EventArgs, ReasonArgs, TargetArgs},
        model::EventKind,
    };

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        reasons: ReasonArgs,
        #[command(flatten)]
        events: EventArgs,
    }

    fn vms() -> VmList {
        let vcpu = |index, tid| Vcpu {
            index: Some(index),
            tid,
            comm: String::new(),
        };
        VmList {
            vms: vec![Vm {
                tgid: 100,
                uuid: None,
                name: "web-1".into(),
                vmm: "qemu".into(),
                vcpus: vec![vcpu(0, 101), vcpu(1, 102)],
            }],
            unreadable: 0,
        }
    }

    fn message(args: &[&str], requested: Requested, running: Option<&VmList>) -> String {
        let args = Args::parse_from([&["test"], args].concat());
        let request = Request {
            requested,
            target: &args.target,
            reasons: Some(&args.reasons),
            events: Some(&args.events),
        };
        explain_with(&request, &[], running)
    }

    #[test]
    fn hosts_without_vms_and_vms_without_events_are_different() {
        let none = VmList::default();
        assert_eq!(
            message(&["--vcpu", "0"], Requested::Events, Some(&none)),
            "no events: no VM is running on this host"
        );
        let idle = message(&[], Requested::Exits, Some(&vms()));
        assert!(
            idle.starts_with(
                "no VM exits: 1 VM is running (web-1 (pid 100, vCPUs 0-1)); `kvm-collector doctor`"
            ),
            "{idle}"
        );
        let unknown = message(&[], Requested::Exits, None);
        assert!(unknown.starts_with("no VM exits: `kvm-collector doctor`"));
    }

    #[test]
    fn options_that_select_no_running_vcpu_are_named() {
        for args in [["--vcpu", "9"], ["--tid", "7"]] {
            let text = message(&args, Requested::Exits, Some(&vms()));
            let option = args.join(" ");
            assert_eq!(
                text,
                format!(
                    "no VM exits matched {option}, which selects none of the running vCPUs: web-1 (pid 100, vCPUs 0-1)"
                )
            );
        }
    }

    #[test]
    fn running_vms_are_not_listed_again_if_an_option_selects_none() {
        for args in [["-p", "1"], ["--vm", "db-1"]] {
            for running in [vms(), VmList::default()] {
                assert_eq!(
                    message(&args, Requested::Exits, Some(&running)),
                    format!("no VM exits: {} selects no running VM", args.join(" "))
                );
            }
        }
    }

    #[test]
    fn options_that_may_have_left_events_out_are_named() {
        let text = message(
            &["--vcpu", "1", "--reason", "EPT_*"],
            Requested::Exits,
            Some(&vms()),
        );
        assert_eq!(
            text,
            "no VM exits matched --vcpu 1 --reason 'EPT_*': 1 VM is running (web-1 (pid 100, vCPUs 0-1)); run without them to see what occurs"
        );
        let kind = EventKind::from_name("cpuid").unwrap();
        let text = message(&[], Requested::Kind(kind), Some(&vms()));
        assert!(text.contains("without --kind cpuid"), "{text}");
    }

    #[test]
    fn exits_with_other_reasons_are_counted() {
        let args = Args::parse_from(["test", "--reason", "EPT_*"]);
        let request = Request {
            requested: Requested::Exits,
            target: &args.target,
            reasons: Some(&args.reasons),
            events: None,
        };
        let unselected = [("hlt".to_owned(), 3), ("npf".to_owned(), 14_874)];
        assert_eq!(
            explain_with(&request, &unselected, Some(&vms())),
            "no VM exits matched: 14,877 VM exits occurred, none of them with --reason 'EPT_*'; reasons seen: npf (14,874), hlt (3)"
        );
    }
}
