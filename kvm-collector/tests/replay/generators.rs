//! Generators of random streams.

use proptest::prelude::*;

use crate::event::{EventType, StreamEvent};

/// Whether an event reaches the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// The event is missing, and no loss is reported.
    Vanishes,
    /// The event is missing, and a loss is reported.
    Lost {
        on_all_cpus: bool,
    },
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        30 => Just(Fate::Arrives),
        1 => Just(Fate::Vanishes),
        1 => any::<bool>().prop_map(|on_all_cpus| Fate::Lost { on_all_cpus }),
    ]
}

/// Random numbers that determine one step of a thread.
#[derive(Debug, Clone, Copy)]
struct Step {
    choice: u8,
    duration_ns: u64,
    /// The source of field values.
    value: u32,
    fate: Fate,
}

fn steps() -> impl Strategy<Value = Step> {
    let ns = prop_oneof![Just(0u64), 1u64..300, 1u64..1_000_000];
    (any::<u8>(), ns, any::<u32>(), fates()).prop_map(|(choice, duration_ns, value, fate)| Step {
        choice,
        duration_ns,
        value,
        fate,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ThreadState {
    Guest,
    Kernel,
    Vmm,
}

/// A simulated vCPU thread, and the events that it has caused.
struct VcpuThread {
    tgid: u32,
    tid: u32,
    vcpu: u32,
    cpu: u32,
    time_ns: u64,
    state: ThreadState,
    events: Vec<StreamEvent>,
}

impl VcpuThread {
    fn add_event(&mut self, event_type: EventType, fate: Fate) {
        let event = |event_type| StreamEvent {
            time_ns: self.time_ns,
            cpu: self.cpu,
            tgid: self.tgid,
            tid: self.tid,
            event_type,
        };
        self.events.push(match fate {
            Fate::Lost { on_all_cpus } => event(EventType::Lost { on_all_cpus }),
            Fate::Vanishes => return,
            Fate::Arrives => event(event_type),
        });
    }

    /// Switches the thread out and, after `ns`, in again on any CPU.
    fn switch_out_and_in(&mut self, is_runnable: bool, ns: u64, cpu: u32) {
        self.add_event(EventType::SwitchOut { is_runnable }, Fate::Arrives);
        self.time_ns += ns;
        self.cpu = cpu % 3;
        self.add_event(EventType::SwitchIn, Fate::Arrives);
    }

    fn halt(&mut self, step: &Step) {
        let start_ns = self.time_ns;
        let value = step.value;
        self.time_ns += u64::from(value % 50);
        // At most one preemption: the clock stores only the last one.
        if value & 0x100 != 0 {
            self.switch_out_and_in(true, u64::from(value % 70), value >> 9);
        }
        self.time_ns += step.duration_ns / 3;
        if value & 0x200 != 0 {
            self.switch_out_and_in(false, step.duration_ns, value >> 10);
        }
        let ns = self.time_ns - start_ns;
        self.add_event(EventType::Wakeup { ns }, step.fate);
        self.state = ThreadState::Kernel;
    }

    fn step(&mut self, step: &Step) {
        self.time_ns += step.duration_ns;
        let Step { value, fate, .. } = *step;
        let exit = EventType::Exit {
            vcpu: self.vcpu,
            code: [0x72, 0x78, 0x7b, 0x400][value as usize % 4],
            rip: u64::from(value % 30),
        };
        match (self.state, step.choice) {
            // The thread may end in any state. A new thread may get its id.
            (_, 0..=3) => {
                self.add_event(EventType::ThreadEnd, Fate::Arrives);
                self.tgid += value % 2;
                self.vcpu += 10 * (value % 3);
                self.state = ThreadState::Guest;
            }
            // From now on, the thread runs another vCPU.
            (ThreadState::Kernel, 4) => self.vcpu += 10,
            (ThreadState::Guest, _) => {
                self.add_event(exit, fate);
                self.state = ThreadState::Kernel;
            }
            (_, 4..30) => self.switch_out_and_in(true, step.duration_ns / 2, value),
            (_, 30..120) => {
                self.add_event(EventType::Entry, fate);
                self.state = ThreadState::Guest;
            }
            (_, 120..150) => self.halt(step),
            // Also from the VMM: a signal may interrupt KVM_RUN before it enters the guest.
            (_, 150..190) => {
                let errno = if value.is_multiple_of(3) { -4 } else { 0 };
                let reason = value % 5;
                self.add_event(EventType::UserspaceExit { reason, errno }, fate);
                self.state = ThreadState::Vmm;
            }
            (_, 190..215) => {
                let (port, rw) = (value % 3, value / 3 % 2);
                self.add_event(EventType::Pio { port, rw }, fate);
                self.state = ThreadState::Kernel;
            }
            (_, 215..245) => {
                let (gpa, kind) = (u64::from(value % 30), value % 3);
                self.add_event(EventType::Mmio { gpa, kind }, fate);
                self.state = ThreadState::Kernel;
            }
            (_, _) => {
                self.add_event(exit, fate);
                self.state = ThreadState::Kernel;
            }
        }
    }
}

/// Generates streams of several vCPU threads, with lost events and readings.
pub(crate) fn plausible_streams() -> impl Strategy<Value = Vec<StreamEvent>> {
    let thread = prop::collection::vec(steps(), 1..120);
    let readings = prop::collection::vec(0u64..20_000_000, 0..3);
    (prop::collection::vec(thread, 1..5), readings).prop_map(|(threads, readings)| {
        let mut events = Vec::new();
        for (number, steps) in (0..).zip(threads) {
            let mut thread = VcpuThread {
                tgid: 100 * (number / 2 + 1),
                tid: 7 + number,
                vcpu: number,
                cpu: number % 3,
                time_ns: 1000,
                state: ThreadState::Guest,
                events: Vec::new(),
            };
            steps.iter().for_each(|step| thread.step(step));
            events.append(&mut thread.events);
        }
        events.extend(readings.into_iter().map(|time_ns| StreamEvent {
            time_ns,
            cpu: 0,
            tgid: 0,
            tid: 0,
            event_type: EventType::Reading,
        }));
        // The sort is stable: simultaneous events of a thread stay in their order.
        events.sort_by_key(|event| event.time_ns);
        events
    })
}

/// Generates streams that no kernel emits. Their times may be out of order.
pub(crate) fn arbitrary_streams() -> impl Strategy<Value = Vec<StreamEvent>> {
    let ns = prop_oneof![Just(0u64), 1u64..1000, any::<u64>()];
    let event_type = prop_oneof![
        (0..3u32, 0..3u32, 0..30u64).prop_map(|(vcpu, code, rip)| EventType::Exit {
            vcpu,
            code,
            rip
        }),
        Just(EventType::Entry),
        (0..3u32, -5..1i32).prop_map(|(reason, errno)| EventType::UserspaceExit { reason, errno }),
        ns.clone().prop_map(|ns| EventType::Wakeup { ns }),
        (0..3u32, 0..2u32).prop_map(|(port, rw)| EventType::Pio { port, rw }),
        (0..3u64, 0..3u32).prop_map(|(gpa, kind)| EventType::Mmio { gpa, kind }),
        any::<bool>().prop_map(|is_runnable| EventType::SwitchOut { is_runnable }),
        Just(EventType::SwitchIn),
        Just(EventType::ThreadEnd),
        any::<bool>().prop_map(|on_all_cpus| EventType::Lost { on_all_cpus }),
        Just(EventType::Reading),
    ];
    let delay_ns = prop_oneof![0u64..5, 0u64..100_000];
    let event = (delay_ns, ns, 0u8..50, 0..3u32, 1..4u32, event_type);
    let streams = (
        prop::collection::vec(event, 0..300),
        any::<bool>(),
        any::<bool>(),
    );
    streams.prop_map(|(events, is_sorted, has_thread_ends)| {
        let mut now_ns = 0;
        let mut all = Vec::new();
        for (delay_ns, any_ns, choice, cpu, tid, event_type) in events {
            now_ns += delay_ns;
            let time_ns = if !is_sorted && choice == 0 {
                any_ns
            } else {
                now_ns
            };
            let (tgid, event_type) = match event_type {
                // Each vCPU is run by one thread only. Otherwise the same time would count for two threads.
                EventType::Exit { code, rip, vcpu } => {
                    let vcpu = if vcpu == 0 { tid + 10 } else { tid };
                    (1, EventType::Exit { vcpu, code, rip })
                }
                EventType::ThreadEnd if !has_thread_ends => (1, EventType::Entry),
                event_type => (1, event_type),
            };
            all.push(StreamEvent {
                time_ns,
                cpu,
                tgid,
                tid,
                event_type,
            });
        }
        all
    })
}
