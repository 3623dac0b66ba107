//! A host that never was, and what a source would read of it: the same every time.

use std::{collections::HashSet, time::Duration};

use kvm_collector::{
    model::{EventKind, ExitReading, ExitTotals, Loss, MinMax, ThreadExits, VcpuId, VcpuTimes},
    tracefs::{Format, ReasonNames},
    tui::{self, App, Setup, Sort},
    view::{KeyNames, Scope, TopReading},
};
use kvm_ebpf_common::{Key, bucket_index};
use ratatui::{Terminal, backend::TestBackend};

const EXIT: &str = include_str!("../fixtures/formats/6.18-x86_64/kvm/kvm_exit");

pub(crate) const SECOND: u64 = 1_000_000_000;

/// One kind of exits that each vCPU of a VM makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exits {
    /// The reason's number on AMD.
    pub(crate) code: u64,
    pub(crate) per_s: u64,
    pub(crate) mean_ns: u64,
    /// Percent of the time in the VMM, halted, and preempted.
    pub(crate) parts: [u64; 3],
}

const fn exits(code: u64, per_s: u64, mean_ns: u64, parts: [u64; 3]) -> Exits {
    Exits {
        code,
        per_s,
        mean_ns,
        parts,
    }
}

pub(crate) const HLT: Exits = exits(0x78, 900, 600_000, [0, 96, 1]);
pub(crate) const IO: Exits = exits(0x7b, 400, 33_000, [70, 0, 2]);
pub(crate) const MSR: Exits = exits(0x7c, 2500, 2_400, [0, 0, 0]);
pub(crate) const NPF: Exits = exits(0x400, 1200, 9_100, [35, 0, 0]);
pub(crate) const CPUID: Exits = exits(0x72, 50, 1_300, [0, 0, 0]);
pub(crate) const INTERRUPT: Exits = exits(0x60, 250, 3_800, [0, 0, 40]);

#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) tgid: u32,
    pub(crate) name: String,
    pub(crate) vcpus: u32,
    pub(crate) exits: Vec<Exits>,
    /// The second in which it ended.
    pub(crate) ended_s: Option<u64>,
}

impl Vm {
    pub(crate) fn new(tgid: u32, name: &str, vcpus: u32, exits: &[Exits]) -> Self {
        Self {
            tgid,
            name: name.into(),
            vcpus,
            exits: exits.to_vec(),
            ended_s: None,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    pub(crate) vms: Vec<Vm>,
    /// Something else than exits by their reason: its events have no times.
    pub(crate) kind: Option<&'static str>,
    /// What is missing by each second.
    pub(crate) loss: Option<fn(u64) -> Loss>,
    pub(crate) preempt_watched: bool,
}

/// Some VMs, one with a long name, one with a wide one.
pub(crate) fn small() -> Host {
    Host {
        vms: vec![
            Vm::new(1201, "web-1", 4, &[HLT, IO, MSR, NPF, CPUID, INTERRUPT]),
            Vm::new(1202, "web-2", 2, &[HLT, MSR, INTERRUPT]),
            Vm::new(
                1300,
                "db-primary-eu-central-1a.production.example.com",
                8,
                &[NPF, MSR, INTERRUPT],
            ),
            Vm::new(1400, "データベース", 2, &[HLT, IO]),
            Vm::new(1500, "idle", 1, &[HLT]),
        ],
        ..Host::default()
    }
}

impl Exits {
    /// What a vCPU made of them in so many seconds; some seconds have more than others.
    fn totals(&self, vm: &Vm, vcpu: u32, seconds: u64, timed: bool) -> ExitTotals {
        let salt = self.code + u64::from(vm.tgid);
        let weight: u64 = (0..seconds).map(|s| 4 + (s * s + salt) % 5).sum();
        let count = self.per_s * weight * u64::from(4 - vcpu % 4) / 20;
        let mut totals = ExitTotals {
            count,
            ..ExitTotals::default()
        };
        if !timed {
            totals.untimed = count;
            return totals;
        }
        let (rare, few, half) = (count / 100, count / 10, count / 2);
        totals.histogram[bucket_index(self.mean_ns / 2)] += half;
        totals.histogram[bucket_index(self.mean_ns)] += count - half - few - rare;
        totals.histogram[bucket_index(self.mean_ns * 2)] += few;
        totals.histogram[bucket_index(self.mean_ns * 9)] += rare;
        totals.total_ns = count * self.mean_ns;
        [totals.vmm_ns, totals.halted_ns, totals.preempted_ns] =
            self.parts.map(|percent| totals.total_ns * percent / 100);
        totals.extremes = self.extremes();
        totals
    }

    fn extremes(&self) -> MinMax {
        MinMax {
            min_ns: self.mean_ns / 3,
            max_ns: self.mean_ns * 11,
        }
    }
}

impl Host {
    fn counted(&self) -> Option<EventKind> {
        self.kind
            .map(|name| EventKind::from_name(name).expect("a kind"))
    }

    /// What is read after so many seconds.
    pub(crate) fn reading(&self, seconds: u64, scope: Scope) -> TopReading {
        self.reading_of(seconds, scope, &mut HashSet::new())
    }

    /// The same, if some keys have been named before.
    pub(crate) fn reading_of(
        &self,
        seconds: u64,
        scope: Scope,
        named: &mut HashSet<Key>,
    ) -> TopReading {
        let kind = self.counted();
        let mut reading = TopReading::new(scope, kind.as_ref());
        let mut vcpus = Vec::new();
        for vm in &self.vms {
            let lived = vm.ended_s.map_or(seconds, |ended| ended.min(seconds));
            for vcpu in 0..vm.vcpus {
                let has_ended = lived < seconds;
                let vcpu_id = VcpuId {
                    tgid: vm.tgid,
                    vcpu,
                    tid: if has_ended {
                        0
                    } else {
                        vm.tgid + 10_000 * (vcpu + 1)
                    },
                };
                let mut out_ns = 0;
                for exits in &vm.exits {
                    let totals = exits.totals(vm, vcpu, lived, kind.is_none());
                    out_ns += totals.total_ns;
                    reading.add(&ThreadExits {
                        vcpu_id,
                        key: Key {
                            code: exits.code,
                            subcode: if kind.is_none() { 2 } else { 0 },
                            kind: 0,
                        },
                        totals: &totals,
                        recent: exits.extremes(),
                        causes: None,
                    });
                }
                let guest_ns = (lived * SECOND).saturating_sub(out_ns);
                vcpus.push(VcpuTimes {
                    vcpu_id,
                    guest_ns: if kind.is_none() { guest_ns } else { 0 },
                    open_ns: 0,
                });
            }
        }
        let mut reading = reading.finish(ExitReading {
            time_ns: seconds * SECOND,
            vcpus,
            loss: self.loss.map_or(Loss::default(), |loss| loss(seconds)),
        });
        let format = Format::parse("kvm", EXIT).expect("a format");
        let counted = kind.as_ref().map(|kind| (kind, &format));
        let names = KeyNames {
            reasons: ReasonNames::new(Some(&format)),
            counted_event: counted,
            cause_events: Vec::new(),
        };
        let vm_name = |tgid| {
            let vm = self.vms.iter().find(|vm| vm.tgid == tgid);
            vm.map(|vm| vm.name.clone())
        };
        reading.add_names(named, &names, &vm_name);
        reading
    }

    /// The screen before anything has been read.
    pub(crate) fn app(&self, size: (u16, u16)) -> App {
        let setup = Setup {
            kind: self.kind.unwrap_or("vmexit").into(),
            preempt_watched: self.preempt_watched,
            color: true,
            interactive: true,
        };
        App::new(setup, Sort::Cost, Duration::from_secs(1), size)
    }

    /// The screen after so many seconds.
    pub(crate) fn watched(&self, size: (u16, u16), seconds: u64) -> App {
        let mut app = self.app(size);
        self.watch(&mut app, 1, seconds);
        app
    }

    /// Goes on watching.
    pub(crate) fn watch(&self, app: &mut App, from: u64, to: u64) {
        for second in from..=to {
            app.add_reading(self.reading(second, app.scope()));
        }
    }
}

/// What is on the screen.
pub(crate) fn picture(app: &App, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal
        .draw(|frame| tui::draw(app, frame.buffer_mut()))
        .expect("a picture");
    let lines: Vec<_> = tui::text_lines(terminal.backend().buffer()).collect();
    lines.join("\n") + "\n"
}
