//! Advice on guests with realistic numbers: none on healthy ones.

use kvm_ebpf_common::Key;

use super::{ExitGroups, ExitsOptions, ExitsReport, GroupBy, KeyNames, SortKey};
use crate::{
    model::{ExitTotals, Loss, MinMax, ThreadExits, VcpuId, VcpuTimes},
    tracefs::{Format, ReasonNames},
};

const EXIT: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");

/// Reasons of VMX and SVM: the instruction set and the number.
const EXTERNAL_INTERRUPT: (u32, u64) = (1, 1);
const HLT: (u32, u64) = (1, 12);
const IO_INSTRUCTION: (u32, u64) = (1, 30);
const MSR_WRITE: (u32, u64) = (1, 32);
const PREEMPTION_TIMER: (u32, u64) = (1, 52);
const SVM_INTERRUPT: (u32, u64) = (2, 0x60);

/// Exits of each vCPU.
#[derive(Clone, Copy)]
struct Exits {
    reason: (u32, u64),
    per_s: u64,
    /// Mean time in the kernel, without halted time.
    kernel_ns: u64,
    vmm_ns: u64,
    halted_ns: u64,
}

fn exits(reason: (u32, u64), per_s: u64, kernel_ns: u64) -> Exits {
    Exits {
        reason,
        per_s,
        kernel_ns,
        vmm_ns: 0,
        halted_ns: 0,
    }
}

const SECONDS: u64 = 10;

/// Returns the topics of the advice on a guest whose vCPUs are in the guest when they do not exit. The rows are by
/// VM, and by vCPU.
fn topics(vcpus: u32, all: &[Exits]) -> Vec<String> {
    let format = Format::parse("kvm", EXIT).unwrap();
    let names = KeyNames {
        reasons: ReasonNames::new(Some(&format)),
        counted_event: None,
        cause_events: Vec::new(),
    };
    let options = ExitsOptions {
        sort: SortKey::Cost,
        top: None,
        percentiles: Vec::new(),
        histograms: false,
        causes: 0,
        advice: true,
        preempt_watched: false,
    };
    let reports = [
        &[GroupBy::Vm, GroupBy::Reason][..],
        &[GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason],
    ]
    .map(|by| {
        let mut groups = ExitGroups::new(by, None);
        for vcpu in 0..vcpus {
            let vcpu_id = VcpuId {
                tgid: 1,
                vcpu,
                tid: 100 + vcpu,
            };
            let mut guest_ns = SECONDS * 1_000_000_000;
            for it in all {
                let count = it.per_s * SECONDS;
                let mut totals = ExitTotals {
                    count,
                    total_ns: count * (it.kernel_ns + it.vmm_ns + it.halted_ns),
                    vmm_ns: count * it.vmm_ns,
                    halted_ns: count * it.halted_ns,
                    ..ExitTotals::default()
                };
                // Exits without a place in the histogram have no time.
                totals.histogram[0] = count;
                guest_ns -= totals.total_ns;
                let exits = ThreadExits {
                    vcpu_id,
                    key: Key {
                        code: it.reason.1,
                        subcode: it.reason.0,
                        kind: 0,
                    },
                    totals: &totals,
                    recent: MinMax::NONE,
                    causes: None,
                };
                groups.add_exits(&exits, |key| names.is_halt(key));
            }
            groups.add_vcpus(&[VcpuTimes {
                vcpu_id,
                guest_ns,
                open_ns: 0,
                has_ended: false,
            }]);
        }
        let times = (0, SECONDS * 1_000_000_000);
        let vm_name = |_| "web".into();
        ExitsReport::from_groups(&groups, times, Loss::default(), &options, &names, &vm_name)
    });
    let [by_vm, by_vcpu] = reports.map(|report| {
        let rows = report.rows.iter().flat_map(|row| {
            let reason = row.reason.as_deref().unwrap_or_default();
            let advice = row.advice.iter();
            advice.map(move |it| format!("{reason}: {}", it.topic))
        });
        let mut topics: Vec<_> = rows.collect();
        topics.sort();
        topics.dedup();
        topics
    });
    assert_eq!(by_vm, by_vcpu);
    by_vm
}

fn assert_quiet(vcpus: u32, all: &[Exits]) {
    assert_eq!(topics(vcpus, all), [""; 0]);
}

#[test]
fn quiet_on_a_healthy_idle_guest() {
    let halts = |per_s, kernel_ns| Exits {
        halted_ns: 960_000_000 / per_s,
        ..exits(HLT, per_s, kernel_ns)
    };
    for vcpus in [1, 8, 64] {
        assert_quiet(
            vcpus,
            &[
                halts(60, 8_000),
                exits(MSR_WRITE, 130, 1_500),
                exits(EXTERNAL_INTERRUPT, 15, 3_000),
                exits(PREEMPTION_TIMER, 20, 2_000),
            ],
        );
    }
    // On a host that is itself a guest, each exit takes much longer.
    assert_quiet(
        2,
        &[
            halts(100, 110_000),
            exits(MSR_WRITE, 130, 40_000),
            exits(EXTERNAL_INTERRUPT, 15, 80_000),
        ],
    );
}

#[test]
fn quiet_on_a_healthy_busy_guest() {
    for vcpus in [1, 4, 64] {
        assert_quiet(
            vcpus,
            &[
                exits(EXTERNAL_INTERRUPT, 300, 2_500),
                exits(MSR_WRITE, 250, 1_200),
                exits(PREEMPTION_TIMER, 250, 2_000),
            ],
        );
    }
}

/// A guest in a loop of two bytes: only the host's tick stops it.
#[test]
fn quiet_on_a_spinning_guest() {
    for (hz, kernel_ns) in [(100, 3_000), (250, 4_000), (1_000, 12_000), (250, 120_000)] {
        assert_quiet(1, &[exits(SVM_INTERRUPT, hz, kernel_ns)]);
        assert_quiet(16, &[exits(EXTERNAL_INTERRUPT, hz, kernel_ns)]);
    }
}

#[test]
fn interrupts_and_wakeups_beyond_the_usual_have_advice() {
    let host = ["EXTERNAL_INTERRUPT: host-interrupts"];
    assert_eq!(topics(2, &[exits(EXTERNAL_INTERRUPT, 8_000, 5_000)]), host);
    // Few, but each takes long: softirqs of the host.
    assert_eq!(topics(2, &[exits(EXTERNAL_INTERRUPT, 250, 300_000)]), host);
    let halts = Exits {
        halted_ns: 100_000,
        ..exits(HLT, 5_000, 6_000)
    };
    assert_eq!(topics(2, &[halts]), ["HLT: halt"]);
    let serial = Exits {
        vmm_ns: 15_000,
        ..exits(IO_INSTRUCTION, 2_000, 3_000)
    };
    assert_eq!(topics(1, &[serial]), ["IO_INSTRUCTION: io-in-vmm"]);
}
