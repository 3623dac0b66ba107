//! Advice on frequent exits. It depends on the exit reason, its causes and where the time went.

mod causes;
mod reasons;
mod subject;
mod topics;

#[cfg(feature = "test-api")]
pub use reasons::with_advice as reasons_with_advice;
pub(crate) use subject::{Cause, Subject, TimeBreakdown};
pub use topics::Advice;
#[cfg(feature = "test-api")]
pub use topics::TOPICS;

/// Returns the advice on a row, the most specific first. It is empty if none is known.
pub(crate) fn find(subject: Subject<'_>, time: TimeBreakdown) -> Vec<Advice> {
    // The scheduler is the problem then, not the exit.
    if time.is_mostly_preempted() {
        return vec![topics::PREEMPTED];
    }
    let mut found = Vec::new();
    match subject {
        Subject::Reason(reason, known) => {
            found.extend(frequent_advice(known, time));
            // Advice on a cause is more specific than advice on the reason.
            if found.is_empty() {
                found.extend(reasons::advice(reason, time));
            }
        }
        Subject::Kind(cause) => found.extend(causes::advice(cause, time)),
    }
    found.retain(|it| has_evidence(*it, time));
    let in_vmm = |advice: &Advice| reasons::ABOUT_VMM.contains(advice);
    if time.is_mostly_vmm() && !found.iter().any(in_vmm) {
        found.push(topics::VMM);
    }
    found
}

/// Returns whether the numbers support an advice. Healthy guests have these exits, too.
fn has_evidence(advice: Advice, time: TimeBreakdown) -> bool {
    match advice {
        topics::HOST_INTERRUPTS => time.exceeds_ticks(),
        topics::HALT => time.exceeds_wakeups(),
        _ => true,
    }
}

/// Returns the advice that applies to at least a quarter of the occurrences of all known causes, the most frequent
/// first. Causes with the same advice count together, so that it does not matter how evenly they are distributed.
fn frequent_advice(known: &[(Cause<'_>, u64)], time: TimeBreakdown) -> Vec<Advice> {
    let mut by_advice: Vec<(Advice, u64)> = Vec::new();
    for (cause, count) in known {
        let Some(advice) = causes::advice(*cause, time) else {
            continue;
        };
        match by_advice.iter_mut().find(|(it, _)| *it == advice) {
            Some((_, sum)) => *sum = sum.saturating_add(*count),
            None => by_advice.push((advice, *count)),
        }
    }
    let seen = known.iter().map(|(_, count)| *count);
    let seen = seen.fold(0, u64::saturating_add);
    by_advice.retain(|(_, count)| *count > 0 && count.saturating_mul(4) >= seen);
    by_advice.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    by_advice.into_iter().map(|(advice, _)| advice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(subject: Subject<'_>, time: TimeBreakdown) -> Vec<&'static str> {
        find(subject, time).iter().map(|it| it.topic).collect()
    }

    /// Two of ten exits go to the VMM, for 1 us each.
    const KERNEL: TimeBreakdown = TimeBreakdown {
        exits: 10,
        vmm_ns: 2_000,
        halted_ns: 0,
        preempted_ns: 1_000,
        busy_ns: 10_000,
        vcpu_ns: 100_000,
        is_halt: false,
    };
    const IN_VMM: TimeBreakdown = TimeBreakdown {
        vmm_ns: 8_000,
        ..KERNEL
    };
    const PREEMPTED: TimeBreakdown = TimeBreakdown {
        preempted_ns: 8_000,
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
            x86: true,
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
                topics(Subject::Reason(reason, &[]), KERNEL),
                [topic],
                "{reason}"
            );
        }
        assert!(topics(Subject::Reason("UNKNOWN(0x99)", &[]), KERNEL).is_empty());
    }

    #[test]
    fn advice_depends_on_where_the_time_went() {
        let reason = |reason, time| topics(Subject::Reason(reason, &[]), time);
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
                assert_eq!(topics(Subject::Reason(reason, &[]), time), [topic]);
            }
        }
    }

    #[test]
    fn advice_on_causes_replaces_advice_on_the_reason() {
        let causes = [(msr(0x830), 10), (msr(0x6e0), 5), (msr(0x838), 5)];
        assert_eq!(
            topics(Subject::Reason("MSR_WRITE", &causes), KERNEL),
            ["ipi", "timer"]
        );
        let unknown = [(msr(0x1234), 1)];
        assert_eq!(
            topics(Subject::Reason("MSR_WRITE", &unknown), KERNEL),
            ["msr"]
        );
        assert_eq!(topics(Subject::Kind(msr(0x80b)), KERNEL), ["apic"]);
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
        let found = topics(Subject::Reason("MSR_WRITE", &causes), KERNEL);
        assert_eq!(found, ["timer"]);
    }

    #[test]
    fn every_kind_of_cause_has_advice() {
        let kind = |kind, code, class| {
            let cause = Cause {
                kind,
                code,
                class,
                x86: true,
            };
            topics(Subject::Kind(cause), IN_VMM)
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
        for advice in TOPICS {
            assert!(
                seen.insert(advice.topic),
                "two topics are called {}",
                advice.topic
            );
            assert!(
                text.contains(&format!("\n| `{}` |", advice.topic)),
                "docs/advice.md has no row for `{}`",
                advice.topic
            );
        }
        let described = text.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(described, TOPICS.len());
    }
}
