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
        Subject::Reason(reason, frequent) => {
            for cause in frequent {
                found.extend(causes::advice(*cause, time));
            }
            // Advice on a cause is more specific than advice on the reason.
            if found.is_empty() {
                found.extend(reasons::advice(reason, time));
            }
        }
        Subject::Kind(cause) => found.extend(causes::advice(cause, time)),
    }
    let in_vmm = |advice: &Advice| reasons::ABOUT_VMM.contains(advice);
    if time.is_mostly_vmm() && !found.iter().any(in_vmm) {
        found.push(topics::VMM);
    }
    let mut unique: Vec<Advice> = Vec::new();
    for advice in found {
        if !unique.contains(&advice) {
            unique.push(advice);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(subject: Subject<'_>, time: TimeBreakdown) -> Vec<&'static str> {
        find(subject, time).iter().map(|it| it.topic).collect()
    }

    const KERNEL: TimeBreakdown = TimeBreakdown {
        vmm_ns: 10,
        halted_ns: 0,
        preempted_ns: 10,
        busy_ns: 100,
        is_halt: false,
    };
    const IN_VMM: TimeBreakdown = TimeBreakdown {
        vmm_ns: 80,
        ..KERNEL
    };
    const PREEMPTED: TimeBreakdown = TimeBreakdown {
        preempted_ns: 80,
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
        let halted_in_vmm = TimeBreakdown {
            vmm_ns: 1000,
            halted_ns: 0,
            is_halt: true,
            ..KERNEL
        };
        assert_eq!(reason("hlt", halted_in_vmm), ["halt-in-vmm"]);
    }

    #[test]
    fn advice_on_causes_replaces_advice_on_the_reason() {
        let causes = [msr(0x830), msr(0x6e0), msr(0x838)];
        assert_eq!(
            topics(Subject::Reason("MSR_WRITE", &causes), KERNEL),
            ["ipi", "timer"]
        );
        let unknown = [msr(0x1234)];
        assert_eq!(
            topics(Subject::Reason("MSR_WRITE", &unknown), KERNEL),
            ["msr"]
        );
        assert_eq!(topics(Subject::Kind(msr(0x80b)), KERNEL), ["apic"]);
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
