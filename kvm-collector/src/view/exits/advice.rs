//! Looks up the advice on a row: on its exit reason and frequent causes, or on its kind of event.

use std::collections::BTreeMap;

use kvm_ebpf_common::Key;

use super::{
    evidence::Evidence,
    groups::{GroupKey, GroupStats},
    names::KeyNames,
    vcpu_time::VcpuTime,
};
use crate::knowledge::advice::{self, Advice, Cause, Isa, Subject, TimeBreakdown};

/// Finds the advice on rows.
///
/// Advice is the same for all vCPUs of a VM, because what an exit does depends on the VM's devices. It is therefore
/// based on the exits of all vCPUs, so that it does not vary with the numbers of each. Only whether a thread had to wait
/// for a CPU depends on the vCPU: on where it runs.
#[derive(Debug, Default)]
pub(super) struct AdviceFinder {
    /// Exits by VM and reason, of all vCPUs.
    groups: BTreeMap<GroupKey, GroupStats>,
}

/// Returns the key of a group without its vCPU.
fn key_of_all_vcpus(key: &GroupKey) -> GroupKey {
    GroupKey { vcpu: None, ..*key }
}

impl AdviceFinder {
    /// Adds a group. All groups must be added before [`AdviceFinder::find`] is called.
    pub(super) fn add(&mut self, key: &GroupKey, group: &GroupStats) {
        let all = self.groups.entry(key_of_all_vcpus(key)).or_default();
        all.merge(group, |kind| kind);
    }

    /// Returns the advice on a group, and what it is based on.
    pub(super) fn find(
        &self,
        (key, own): (&GroupKey, &GroupStats),
        names: &KeyNames<'_>,
        vcpu_time: &VcpuTime,
    ) -> (Vec<Advice>, Option<Evidence>) {
        let vm_key = key_of_all_vcpus(key);
        let group = self.groups.get(&vm_key);
        let Some((group, event_key)) = group.zip(key.key) else {
            return (Vec::new(), None);
        };
        let totals = &group.totals;
        let time = TimeBreakdown {
            exits: totals.timed_count(),
            vmm_ns: totals.vmm_ns,
            halted_ns: totals.halted_ns,
            is_mostly_preempted: own.totals.preempted_ns > busy_ns(own) / 2,
            busy_ns: busy_ns(group),
            vcpu_ns: vcpu_time.of(&vm_key),
            is_halt: names.is_halt(event_key),
        };
        let advice = find_with(group, event_key, names, time);
        let evidence =
            Evidence::new(time.exits, time.busy_ns, time.vcpu_ns).filter(|_| !advice.is_empty());
        (advice, evidence)
    }
}

fn find_with(
    group: &GroupStats,
    event_key: Key,
    names: &KeyNames<'_>,
    time: TimeBreakdown,
) -> Vec<Advice> {
    let isa = isa(event_key, names);
    if let Some((kind, _)) = names.counted_event {
        let cause = Cause {
            kind: &kind.name,
            code: event_key.code << kind.code_shift,
            class: event_key.subcode,
        };
        return advice::find(Subject::Kind(cause), time, isa);
    }
    let causes = group.causes.as_ref();
    let ranked = causes.map(|it| it.ranked()).unwrap_or_default();
    let causes: Vec<_> = ranked
        .iter()
        .filter_map(|(cause, count)| {
            let (kind, _) = names.cause_kind(*cause)?;
            let cause = Cause {
                kind: &kind.name,
                code: cause.code << kind.code_shift,
                class: cause.subcode,
            };
            Some((cause, count.at_least))
        })
        .collect();
    advice::find(
        Subject::Reason(&names.reason(event_key), &causes),
        time,
        isa,
    )
}

/// Returns the instruction set of exits. Exit reasons contain it; for other events it is that of the host.
fn isa(event_key: Key, names: &KeyNames<'_>) -> Isa {
    let value = match names.counted_event {
        None => Some(event_key.subcode),
        Some(_) => names.reasons.host_isa(),
    };
    match names.reasons.isa_name(value.unwrap_or_default()) {
        "vmx" => Isa::Vmx,
        "svm" => Isa::Svm,
        "arm64" => Isa::Arm64,
        _ => Isa::X86,
    }
}

fn busy_ns(group: &GroupStats) -> u64 {
    group.totals.total_ns.saturating_sub(group.idle_ns)
}

#[cfg(test)]
mod tests {
    use kvm_ebpf_common::bucket_index;

    use super::*;
    use crate::{
        model::{EventKind, ExitTotals},
        tracefs::{Format, ReasonNames},
    };

    const EXIT: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");

    /// Exits of SVM with the reason `hlt` or `npf`, each of 1 ms.
    fn group(exits: u64, vmm_ns: u64, halted_ns: u64) -> GroupStats {
        let mut totals = ExitTotals {
            count: exits,
            total_ns: exits * 1_000_000,
            vmm_ns,
            halted_ns,
            ..ExitTotals::default()
        };
        totals.histogram[bucket_index(1_000_000)] = exits;
        let mut group = GroupStats::default();
        group.totals = totals;
        group.idle_ns = halted_ns;
        group
    }

    const NPF: u64 = 0x400;
    const HLT: u64 = 0x78;

    fn names_of(exit: &Format) -> KeyNames<'_> {
        KeyNames {
            reasons: ReasonNames::new(Some(exit)),
            counted_event: None,
            cause_events: Vec::new(),
        }
    }

    fn key(vcpu: u32, code: u64) -> GroupKey {
        let key = Key {
            code,
            subcode: 2,
            kind: 0,
        };
        GroupKey {
            host: None,
            tgid: Some(1),
            vcpu: Some((vcpu, 0)),
            key: Some(key),
        }
    }

    #[test]
    fn vcpus_of_a_vm_get_the_same_advice() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = names_of(&exit);
        let mut finder = AdviceFinder::default();
        // 47 % and 60 % of the time in the VMM.
        finder.add(&key(0, NPF), &group(100, 47_000_000, 0));
        finder.add(&key(1, NPF), &group(100, 60_000_000, 0));
        finder.add(&key(0, HLT), &group(100, 40_000_000, 0));
        finder.add(&key(1, HLT), &group(100, 90_000_000, 0));
        let own = GroupStats::default();
        let topics = |vcpu, code| {
            let (found, _) = finder.find((&key(vcpu, code), &own), &names, &VcpuTime::default());
            found.iter().map(|it| it.topic).collect::<Vec<_>>()
        };
        for vcpu in 0..2 {
            assert_eq!(topics(vcpu, NPF), ["mmio-in-vmm"]);
            assert_eq!(topics(vcpu, HLT), ["halt-in-vmm"]);
        }
    }

    #[test]
    fn only_vcpus_that_waited_for_a_cpu_were_preempted() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let names = names_of(&exit);
        let (mut preempted, running) = (group(100, 47_000_000, 0), group(100, 47_000_000, 0));
        preempted.totals.preempted_ns = 90_000_000;
        let mut finder = AdviceFinder::default();
        finder.add(&key(0, NPF), &preempted);
        finder.add(&key(1, NPF), &running);
        let topics = |vcpu, own: &GroupStats| {
            let (found, _) = finder.find((&key(vcpu, NPF), own), &names, &VcpuTime::default());
            found.iter().map(|it| it.topic).collect::<Vec<_>>()
        };
        assert_eq!(topics(0, &preempted), ["preempted"]);
        assert_eq!(topics(1, &running), ["mmio-in-vmm"]);
    }

    #[test]
    fn exits_have_the_instruction_set_of_their_reason_and_other_events_that_of_the_host() {
        let exit = Format::parse("kvm", EXIT).unwrap();
        let kind = EventKind::from_name("kvm_exit.guest_rip").unwrap();
        let reasons = |host| ReasonNames::new(Some(&exit)).with_host_isa(host);
        let isa_of = |subcode, counted_event, host| {
            let names = KeyNames {
                reasons: reasons(host),
                counted_event,
                cause_events: Vec::new(),
            };
            let key = Key {
                code: 1,
                subcode,
                kind: 0,
            };
            isa(key, &names)
        };
        assert_eq!(isa_of(1, None, None), Isa::Vmx);
        assert_eq!(isa_of(2, None, None), Isa::Svm);
        assert_eq!(isa_of(1, Some((&kind, &exit)), Some(2)), Isa::Svm);
        assert_eq!(isa_of(1, Some((&kind, &exit)), None), Isa::X86);
    }
}
