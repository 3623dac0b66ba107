//! What is usually done about many exits of one kind. Which advice, depends on what the exits are for, on what
//! caused them, and on where their time goes.

mod causes;
mod hot;
mod reasons;
mod topics;

pub(super) use hot::Wholes;
pub use topics::Advice;

use super::{
    groups::{GroupKey, Grouped},
    names::KeyNames,
};

/// One of several causes, as advice looks at it: the kind's name, code and class.
#[derive(Debug, Clone, Copy)]
struct About<'a> {
    kind: &'a str,
    code: u64,
    class: u32,
    /// Are its addresses those of a PC?
    x86: bool,
}

/// What the exits of a row are.
#[derive(Debug, Clone, Copy)]
enum Subject<'a> {
    /// VM exits for this reason, mostly caused by these.
    Reason(&'a str, &'a [About<'a>]),
    /// Another kind of event.
    Kind(About<'a>),
}

/// Where the time of a row went; idle is none of it.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    vmm_ns: u64,
    halted_ns: u64,
    preempted_ns: u64,
    busy_ns: u64,
    /// The VMM's time is because of a halt.
    halt: bool,
}

impl Parts {
    fn of(group: &Grouped, idle_ns: u64, halt: bool) -> Self {
        let totals = &group.totals;
        Self {
            vmm_ns: totals.vmm_ns,
            halted_ns: totals.halted_ns,
            preempted_ns: totals.preempted_ns,
            busy_ns: totals.total_ns.saturating_sub(idle_ns),
            halt,
        }
    }

    fn mostly_preempted(&self) -> bool {
        self.preempted_ns > self.busy_ns / 2
    }

    fn mostly_vmm(&self) -> bool {
        !self.halt && self.vmm_ns > self.busy_ns / 2
    }
}

/// What is advised about the exits of a row, by what they are for and what mostly caused them.
pub(super) fn advice(
    key: &GroupKey,
    group: &Grouped,
    idle_ns: u64,
    names: &KeyNames<'_>,
) -> Vec<Advice> {
    let Some(key) = key.key else {
        return Vec::new();
    };
    let x86 = names.reasons.is_x86();
    let parts = Parts::of(group, idle_ns, names.is_halt(key));
    if let Some((kind, _)) = names.counted {
        let about = About {
            kind: &kind.name,
            code: key.code << kind.shift,
            class: key.class,
            x86,
        };
        return advise(Subject::Kind(about), parts);
    }
    let ranked = group
        .causes
        .as_ref()
        .map(|it| it.ranked())
        .unwrap_or_default();
    let seen: u64 = ranked.iter().map(|(_, count)| count.at_least).sum();
    let about: Vec<_> = ranked
        .iter()
        .filter(|(_, count)| count.at_least > 0 && count.at_least >= seen / 4)
        .filter_map(|(cause, _)| {
            let (kind, _) = names.cause_kind(*cause)?;
            Some(About {
                kind: &kind.name,
                code: cause.code << kind.shift,
                class: cause.class,
                x86,
            })
        })
        .collect();
    advise(Subject::Reason(&names.reason(key), &about), parts)
}

fn advise(subject: Subject<'_>, parts: Parts) -> Vec<Advice> {
    // Then it is not the exits' fault.
    if parts.mostly_preempted() {
        return vec![topics::PREEMPTED];
    }
    let mut found = Vec::new();
    match subject {
        Subject::Reason(reason, about) => {
            for about in about {
                found.extend(causes::advice(*about, parts));
            }
            // A cause says more than the reason.
            if found.is_empty() {
                found.extend(reasons::advice(reason, parts));
            }
        }
        Subject::Kind(about) => found.extend(causes::advice(about, parts)),
    }
    let in_vmm = |advice: &Advice| reasons::ABOUT_VMM.contains(advice);
    if parts.mostly_vmm() && !found.iter().any(in_vmm) {
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

    fn topics(subject: Subject<'_>, parts: Parts) -> Vec<&'static str> {
        advise(subject, parts).iter().map(|it| it.topic).collect()
    }

    const KERNEL: Parts = Parts {
        vmm_ns: 10,
        halted_ns: 0,
        preempted_ns: 10,
        busy_ns: 100,
        halt: false,
    };
    const IN_VMM: Parts = Parts {
        vmm_ns: 80,
        ..KERNEL
    };
    const PREEMPTED: Parts = Parts {
        preempted_ns: 80,
        ..KERNEL
    };

    fn msr(code: u64) -> About<'static> {
        About {
            kind: "msr",
            code,
            class: 1,
            x86: true,
        }
    }

    #[test]
    fn reasons_of_all_processors_have_advice() {
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
    fn where_the_time_goes_matters() {
        let reason = |reason, parts| topics(Subject::Reason(reason, &[]), parts);
        assert_eq!(reason("EPT_MISCONFIG", IN_VMM), ["mmio-in-vmm"]);
        assert_eq!(reason("npf", IN_VMM), ["mmio-in-vmm"]);
        assert_eq!(reason("io", IN_VMM), ["io-in-vmm"]);
        assert_eq!(reason("MSR_WRITE", IN_VMM), ["msr", "vmm"]);
        assert_eq!(reason("UNKNOWN(0x99)", IN_VMM), ["vmm"]);
        assert_eq!(reason("npf", PREEMPTED), ["preempted"]);
        let waits = Parts {
            vmm_ns: 1000,
            halted_ns: 0,
            halt: true,
            ..KERNEL
        };
        assert_eq!(reason("hlt", waits), ["halt-in-vmm"]);
    }

    #[test]
    fn causes_say_more_than_reasons() {
        let about = [msr(0x830), msr(0x6e0), msr(0x838)];
        assert_eq!(
            topics(Subject::Reason("MSR_WRITE", &about), KERNEL),
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
    fn other_kinds_have_advice_too() {
        let kind = |kind, code, class| {
            let about = About {
                kind,
                code,
                class,
                x86: true,
            };
            topics(Subject::Kind(about), IN_VMM)
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
    fn every_topic_is_in_the_document() {
        let text = include_str!("../../../../../docs/advice.md");
        let mut seen = std::collections::BTreeSet::new();
        for advice in topics::ALL {
            assert!(seen.insert(advice.topic), "{} is there twice", advice.topic);
            assert!(
                text.contains(&format!("\n| `{}` |", advice.topic)),
                "docs/advice.md does not have `{}`",
                advice.topic
            );
        }
        let described = text.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(described, topics::ALL.len());
    }
}
