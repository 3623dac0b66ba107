//! Advice on frequent exits. It depends on the exit reason, its causes and where the time went.

mod causes;
mod reasons;
mod subject;
mod topics;

#[cfg(feature = "test-api")]
pub use reasons::with_advice as reasons_with_advice;
pub use subject::Isa;
pub(crate) use subject::{Cause, Subject, TimeBreakdown};
pub use topics::Advice;
#[cfg(feature = "test-api")]
pub use topics::TOPICS;
use topics::Topic;

/// Returns the advice on a row with exits of this instruction set, the most specific first. It is empty if none is
/// known.
pub(crate) fn find(subject: Subject<'_>, time: TimeBreakdown, isa: Isa) -> Vec<Advice> {
    let topics = find_topics(subject, time, isa);
    topics.iter().map(|topic| topic.advice(isa)).collect()
}

fn find_topics(subject: Subject<'_>, time: TimeBreakdown, isa: Isa) -> Vec<Topic> {
    // The scheduler is the problem then, not the exit.
    if time.is_mostly_preempted {
        return vec![topics::PREEMPTED];
    }
    let mut found = Vec::new();
    match subject {
        Subject::Reason(reason, known) => {
            found.extend(frequent_topics(known, time, isa));
            // Advice on a cause is more specific than advice on the reason.
            if found.is_empty() {
                found.extend(reasons::advice(reason, time));
            }
        }
        Subject::Kind(cause) => found.extend(causes::advice(cause, time, isa)),
    }
    found.retain(|it| has_evidence(*it, time));
    let in_vmm = |topic: &Topic| reasons::ABOUT_VMM.contains(topic);
    if time.is_mostly_vmm() && !found.iter().any(in_vmm) {
        found.push(topics::VMM);
    }
    found
}

/// Returns whether the numbers support an advice. Healthy guests have these exits, too.
fn has_evidence(topic: Topic, time: TimeBreakdown) -> bool {
    match topic {
        topics::HOST_INTERRUPTS => time.exceeds_ticks(),
        topics::HALT => time.exceeds_wakeups(),
        _ => true,
    }
}

/// Returns the topics that apply to at least a quarter of the occurrences of all known causes, the most frequent
/// first. Causes with the same topic count together, so that it does not matter how evenly they are distributed.
fn frequent_topics(known: &[(Cause<'_>, u64)], time: TimeBreakdown, isa: Isa) -> Vec<Topic> {
    let mut by_topic: Vec<(Topic, u64)> = Vec::new();
    for (cause, count) in known {
        let Some(topic) = causes::advice(*cause, time, isa) else {
            continue;
        };
        match by_topic.iter_mut().find(|(it, _)| *it == topic) {
            Some((_, sum)) => *sum = sum.saturating_add(*count),
            None => by_topic.push((topic, *count)),
        }
    }
    let seen = known.iter().map(|(_, count)| *count);
    let seen = seen.fold(0, u64::saturating_add);
    by_topic.retain(|(_, count)| *count > 0 && count.saturating_mul(4) >= seen);
    by_topic.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    by_topic.into_iter().map(|(topic, _)| topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(subject: Subject<'_>, time: TimeBreakdown) -> Vec<&'static str> {
        find(subject, time, Isa::X86)
            .iter()
            .map(|it| it.topic)
            .collect()
    }

    /// Two of ten exits go to the VMM, for 1 us each.
    const KERNEL: TimeBreakdown = TimeBreakdown {
        exits: 10,
        vmm_ns: 2_000,
        halted_ns: 0,
        is_mostly_preempted: false,
        busy_ns: 10_000,
        vcpu_ns: 100_000,
        is_halt: false,
    };
    const IN_VMM: TimeBreakdown = TimeBreakdown {
        vmm_ns: 8_000,
        ..KERNEL
    };
    const PREEMPTED: TimeBreakdown = TimeBreakdown {
        is_mostly_preempted: true,
        ..KERNEL
    };
    /// All exits go to the VMM, but most of the time is in the kernel.
    const SHORT_IN_VMM: TimeBreakdown = TimeBreakdown {
        vmm_ns: 10_000,
        busy_ns: 100_000,
        ..KERNEL
    };

    fn msr(code: u64) -> Cause<'static> {
        Cause {
            kind: "msr",
            code,
            class: 1,
        }
    }

    #[test]
    fn reasons_of_vmx_svm_and_arm64_have_advice() {
        for (reason, topic) in [
            ("PAUSE_INSTRUCTION", "pause"),
            ("pause", "pause"),
            ("HLT", "halt"),
            ("hlt", "halt"),
            ("WFx", "halt"),
            ("EPT_VIOLATION", "faults"),
            ("npf", "faults"),
            ("DABT_LOW", "faults"),
            ("EPT_MISCONFIG", "mmio-in-kernel"),
            ("io", "io-in-kernel"),
            ("MSR_WRITE", "msr"),
            ("EXTERNAL_INTERRUPT", "host-interrupts"),
            ("interrupt", "host-interrupts"),
            ("IRQ", "host-interrupts"),
            ("vintr", "interrupt-window"),
            ("write_cr8", "apic"),
            ("write_cr0", "control-registers"),
            ("write_dr7", "debug-registers"),
            ("PF excp", "exception"),
            ("vmgexit", "sev-es"),
            ("BUS_LOCK", "bus-lock"),
            ("NOTIFY", "notify"),
            ("VMRESUME", "nested"),
            ("vmrun", "nested"),
            ("SYS64", "system-registers"),
            ("HVC64", "hypercall"),
        ] {
            assert_eq!(
                names(Subject::Reason(reason, &[]), KERNEL),
                [topic],
                "{reason}"
            );
        }
        assert!(names(Subject::Reason("UNKNOWN(0x99)", &[]), KERNEL).is_empty());
    }

    #[test]
    fn advice_depends_on_where_the_time_went() {
        let reason = |reason, time| names(Subject::Reason(reason, &[]), time);
        assert_eq!(reason("EPT_MISCONFIG", IN_VMM), ["mmio-in-vmm"]);
        assert_eq!(reason("npf", IN_VMM), ["mmio-in-vmm"]);
        assert_eq!(reason("io", IN_VMM), ["io-in-vmm"]);
        assert_eq!(reason("MSR_WRITE", IN_VMM), ["msr", "vmm"]);
        assert_eq!(reason("UNKNOWN(0x99)", IN_VMM), ["vmm"]);
        assert_eq!(reason("npf", PREEMPTED), ["preempted"]);
        let halt = |vmm_ns, halted_ns| {
            let time = TimeBreakdown {
                vmm_ns,
                halted_ns,
                is_halt: true,
                ..KERNEL
            };
            reason("hlt", time)
        };
        assert_eq!(halt(100_000, 0), ["halt-in-vmm"]);
        assert_eq!(halt(5_000, 0), ["halt-in-vmm"]);
        assert_eq!(halt(0, 100_000), ["halt"]);
        assert_eq!(halt(5_000, 100_000), ["halt"], "signals end some halts");
        assert_eq!(halt(0, 0), ["halt"], "the parts are not known");
    }

    /// Devices of the VMM are its business even if KVM takes longer to emulate the instruction.
    #[test]
    fn the_share_of_the_time_in_the_vmm_does_not_matter() {
        for (reason, topic) in [
            ("npf", "mmio-in-vmm"),
            ("EPT_MISCONFIG", "mmio-in-vmm"),
            ("io", "io-in-vmm"),
        ] {
            for time in [SHORT_IN_VMM, IN_VMM] {
                assert_eq!(names(Subject::Reason(reason, &[]), time), [topic]);
            }
        }
    }

    #[test]
    fn advice_on_causes_replaces_advice_on_the_reason() {
        let causes = [(msr(0x830), 10), (msr(0x6e0), 5), (msr(0x838), 5)];
        assert_eq!(
            names(Subject::Reason("MSR_WRITE", &causes), KERNEL),
            ["ipi", "timer"]
        );
        let unknown = [(msr(0x1234), 1)];
        assert_eq!(
            names(Subject::Reason("MSR_WRITE", &unknown), KERNEL),
            ["msr"]
        );
        assert_eq!(names(Subject::Kind(msr(0x80b)), KERNEL), ["apic"]);
    }

    /// The timer needs two registers. Alone, each of them would be below a quarter.
    #[test]
    fn causes_with_the_same_advice_count_together() {
        let causes = [
            (msr(0x1234), 30),
            (msr(0x80b), 24),
            (msr(0x832), 23),
            (msr(0x838), 23),
        ];
        let found = names(Subject::Reason("MSR_WRITE", &causes), KERNEL);
        assert_eq!(found, ["timer"]);
    }

    #[test]
    fn every_kind_of_cause_has_advice() {
        let kind = |kind, code, class| {
            let cause = Cause { kind, code, class };
            names(Subject::Kind(cause), IN_VMM)
        };
        assert_eq!(kind("pio", 0x3f8, 1), ["serial"]);
        assert_eq!(kind("pio", 0x608, 0), ["clock"]);
        assert_eq!(kind("pio", 0xc040, 0), ["io-in-vmm"]);
        assert_eq!(kind("mmio", 0xfee0_0300, 2), ["ipi", "vmm"]);
        assert_eq!(kind("mmio", 0xfebd_1000, 2), ["mmio-in-vmm"]);
        assert_eq!(kind("userspace", 6, 0), ["mmio-in-vmm"]);
        assert_eq!(kind("userspace", 0, (-4_i32).cast_unsigned()), ["signals"]);
        assert_eq!(kind("hypercall", 10, 0), ["ipi", "vmm"]);
        assert_eq!(kind("kvm_eoi.vector", 10, 0), ["vmm"]);
    }

    #[test]
    fn every_topic_is_documented() {
        let text = include_str!("../../../../docs/advice.md");
        let mut seen = std::collections::BTreeSet::new();
        for topic in TOPICS {
            assert!(
                seen.insert(topic.name),
                "two topics are called {}",
                topic.name
            );
            assert!(
                text.contains(&format!("\n| `{}` |", topic.name)),
                "docs/advice.md has no row for `{}`",
                topic.name
            );
        }
        let described = text.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(described, TOPICS.len());
    }

    #[test]
    fn advice_names_only_what_the_vendor_has() {
        const VMX: [&str; 5] = ["intel", " ept ", "vmx", "posted interrupt", "apicv"];
        const SVM: [&str; 5] = ["amd", " npt ", "avic", "svm", "nested page"];
        let others = [
            (Isa::Vmx, &SVM[..], &[][..]),
            (Isa::Svm, &VMX[..], &[][..]),
            (Isa::Arm64, &VMX[..], &SVM[..]),
        ];
        for (isa, first, second) in others {
            for topic in TOPICS {
                let text = topic.advice(isa).text.to_lowercase();
                let text = text.replace(|c: char| !c.is_alphanumeric() && c != '_', " ");
                for word in first.iter().chain(second) {
                    assert!(!text.contains(word), "{isa:?}: `{word}` in {text}");
                }
            }
        }
        let ipi = |isa| topics::IPI.advice(isa).text;
        assert!(ipi(Isa::Vmx).contains("kvm_intel.enable_ipiv"));
        assert!(ipi(Isa::Svm).contains("kvm_amd.avic"));
        assert!(ipi(Isa::X86).contains("kvm_intel") && ipi(Isa::X86).contains("kvm_amd"));
    }
}
