//! A simulated host with VMs, and the readings that a source would get from it. The readings are deterministic.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use kvm_collector::{
    model::{EventKind, ExitReading, ExitTotals, Loss, MinMax, ThreadExits, VcpuId, VcpuTimes},
    tracefs::{Format, ReasonNames},
    tui::{self, App, Setup, Sort},
    view::{KeyNames, Scope, TopReading},
};
use kvm_ebpf_common::{Key, VCPU_UNKNOWN, bucket_index};
use ratatui::{Terminal, backend::TestBackend};

const EXIT: &str = include_str!("../fixtures/formats/6.18-x86_64/kvm/kvm_exit");

pub(crate) const SECOND: u64 = 1_000_000_000;

/// The exits of one reason on each vCPU of a VM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExitLoad {
    /// The reason's code on AMD.
    pub(crate) code: u64,
    pub(crate) per_s: u64,
    pub(crate) mean_ns: u64,
    /// Percentages of the time that is VMM, halted and preempted time.
    pub(crate) parts: [u64; 3],
}

const fn exit_load(code: u64, per_s: u64, mean_ns: u64, parts: [u64; 3]) -> ExitLoad {
    ExitLoad {
        code,
        per_s,
        mean_ns,
        parts,
    }
}

pub(crate) const HLT: ExitLoad = exit_load(0x78, 900, 600_000, [0, 96, 1]);
pub(crate) const IO: ExitLoad = exit_load(0x7b, 400, 33_000, [70, 0, 2]);
pub(crate) const MSR: ExitLoad = exit_load(0x7c, 2500, 2_400, [0, 0, 0]);
pub(crate) const NPF: ExitLoad = exit_load(0x400, 1200, 9_100, [35, 0, 0]);
pub(crate) const CPUID: ExitLoad = exit_load(0x72, 50, 1_300, [0, 0, 0]);
pub(crate) const INTERRUPT: ExitLoad = exit_load(0x60, 250, 3_800, [0, 0, 40]);

#[derive(Debug, Clone)]
pub(crate) struct SimulatedVm {
    pub(crate) tgid: u32,
    pub(crate) name: String,
    pub(crate) vcpus: u32,
    pub(crate) exits: Vec<ExitLoad>,
    /// The second in which the VM ends.
    pub(crate) ended_s: Option<u64>,
}

impl SimulatedVm {
    pub(crate) fn new(tgid: u32, name: &str, vcpus: u32, exits: &[ExitLoad]) -> Self {
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
pub(crate) struct SimulatedHost {
    pub(crate) vms: Vec<SimulatedVm>,
    /// The event kind that is counted in place of exit reasons. Its events have no times.
    pub(crate) kind: Option<&'static str>,
    /// Returns the total loss up to a second.
    pub(crate) loss: Option<fn(u64) -> Loss>,
    pub(crate) preempt_watched: bool,
    /// Events do not show the index of their vCPU.
    pub(crate) hides_vcpu_indices: bool,
    /// The name of the recording that is played.
    pub(crate) recording: Option<&'static str>,
    /// The options that select VMs and vCPUs.
    pub(crate) selection: &'static str,
    /// The terminal shows only ASCII.
    pub(crate) is_ascii: bool,
}

/// A host with five VMs: one has a long name, one has a name of wide characters.
pub(crate) fn small_host() -> SimulatedHost {
    SimulatedHost {
        vms: vec![
            SimulatedVm::new(1201, "web-1", 4, &[HLT, IO, MSR, NPF, CPUID, INTERRUPT]),
            SimulatedVm::new(1202, "web-2", 2, &[HLT, MSR, INTERRUPT]),
            SimulatedVm::new(
                1300,
                "db-primary-eu-central-1a.production.example.com",
                8,
                &[NPF, MSR, INTERRUPT],
            ),
            SimulatedVm::new(1400, "データベース", 2, &[HLT, IO]),
            SimulatedVm::new(1500, "idle", 1, &[HLT]),
        ],
        ..SimulatedHost::default()
    }
}

impl ExitLoad {
    /// The totals of one vCPU after `seconds`. The rate varies from second to second.
    fn totals(&self, vm: &SimulatedVm, vcpu: u32, seconds: u64, is_timed: bool) -> ExitTotals {
        let salt = self.code + u64::from(vm.tgid);
        let weight: u64 = (0..seconds)
            .map(|second| 4 + (second * second + salt) % 5)
            .sum();
        let count = self.per_s * weight * u64::from(4 - vcpu % 4) / 20;
        let mut totals = ExitTotals {
            count,
            ..ExitTotals::default()
        };
        if !is_timed {
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

impl SimulatedHost {
    fn event_kind(&self) -> Option<EventKind> {
        self.kind
            .map(|name| EventKind::from_name(name).expect("a kind"))
    }

    /// Returns the reading after `seconds`.
    pub(crate) fn reading(&self, seconds: u64, scope: Scope) -> TopReading {
        self.reading_without_known_names(seconds, scope, &mut HashSet::new())
    }

    /// Returns the reading after `seconds` without the names of keys in `named_keys`. Adds the keys that it names.
    pub(crate) fn reading_without_known_names(
        &self,
        seconds: u64,
        scope: Scope,
        named_keys: &mut HashSet<Key>,
    ) -> TopReading {
        let kind = self.event_kind();
        let mut reading = TopReading::new(scope, kind.as_ref());
        let mut vcpus = Vec::new();
        for vm in &self.vms {
            let lived_s = vm.ended_s.map_or(seconds, |ended| ended.min(seconds));
            for vcpu in 0..vm.vcpus {
                let has_ended = lived_s < seconds;
                let vcpu_id = VcpuId {
                    tgid: vm.tgid,
                    vcpu: if self.hides_vcpu_indices {
                        VCPU_UNKNOWN
                    } else {
                        vcpu
                    },
                    tid: if has_ended && !self.hides_vcpu_indices {
                        0
                    } else {
                        vm.tgid + 10_000 * (vcpu + 1)
                    },
                };
                let mut out_ns = 0;
                for exits in &vm.exits {
                    let totals = exits.totals(vm, vcpu, lived_s, kind.is_none());
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
                let guest_ns = (lived_s * SECOND).saturating_sub(out_ns);
                vcpus.push(VcpuTimes {
                    vcpu_id,
                    guest_ns: if kind.is_none() { guest_ns } else { 0 },
                    open_ns: 0,
                    has_ended,
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
        reading.add_names(named_keys, &names, &vm_name);
        reading
    }

    /// Returns `top` before the first reading.
    pub(crate) fn new_app(&self, size: (u16, u16)) -> App {
        let setup = Setup {
            kind: self.kind.unwrap_or("vmexit").into(),
            preempt_watched: self.preempt_watched,
            color: true,
            unicode: !self.is_ascii,
            recording: self.recording.map(str::to_owned),
            selection: self.selection.into(),
            vcpus_from_thread_names: false,
            interactive: true,
        };
        App::new(setup, Sort::Cost, Duration::from_secs(1), size)
    }

    /// Returns `top` after one reading per second.
    pub(crate) fn app_after(&self, seconds: u64, size: (u16, u16)) -> App {
        let mut app = self.new_app(size);
        self.add_readings(&mut app, 1..=seconds);
        app
    }

    /// Adds one reading for each of these seconds.
    pub(crate) fn add_readings(&self, app: &mut App, seconds: RangeInclusive<u64>) {
        for second in seconds {
            app.add_reading(self.reading(second, app.scope()));
        }
    }
}

/// Draws the screen and returns its text.
pub(crate) fn draw_text(app: &App, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal
        .draw(|frame| tui::draw(app, frame.buffer_mut()))
        .expect("cannot draw");
    let lines: Vec<_> = tui::text_lines(terminal.backend().buffer()).collect();
    lines.join("\n") + "\n"
}
