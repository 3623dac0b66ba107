//! Perfetto's trace format, for <https://ui.perfetto.dev>: a process for each VM, a thread for each vCPU, with
//! slices for the guest and for exits, whose parts lie within them.

mod packets;
mod proto;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use self::{
    packets::{Note, Packets},
    proto::{CounterDescriptor, ProcessDescriptor, ThreadDescriptor, TrackDescriptor},
};
use super::{End, Gap, Sink};
use crate::{
    model::{
        Exit, ExitEnd, Loss, Part, Segment, VcpuId, VcpuState,
        capacity::{MOST_KEY_NAMES, MOST_NAMED},
    },
    source::Names,
    tracefs::{Format, ReasonNames},
};
use kvm_ebpf_common::{Key, VCPU_UNKNOWN};

/// How often exits are counted.
const COUNTED_EVERY_NS: u64 = 10_000_000;
const COUNTS_PER_SECOND: u64 = 1_000_000_000 / COUNTED_EVERY_NS;

/// Writes a trace.
#[derive(Debug)]
pub struct Perfetto<W> {
    packets: Packets<W>,
    exit: Option<Format>,
    vms: HashMap<u32, Vm>,
    vcpus: HashMap<VcpuId, u64>,
    /// The numbers of reasons' names.
    reasons: HashMap<Key, u64>,
    lost_track: Option<u64>,
    last_ns: u64,
    /// Exits of vCPUs that found no room for a track.
    left_out: u64,
}

#[derive(Debug)]
struct Vm {
    counter: u64,
    /// The time that exits are counted in now, in units of `COUNTED_EVERY_NS`.
    interval: u64,
    exits: u64,
}

impl<W: Write> Perfetto<W> {
    /// Of exits of this format; `clock` is the kernel's number of the recording's clock, and `clocks` is a moment by
    /// the wall and by it.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(
        exit: Option<Format>,
        clock: Option<u32>,
        clocks: Option<(u64, u64)>,
        out: W,
    ) -> io::Result<Self> {
        Ok(Self {
            packets: Packets::begin(clock, clocks, out)?,
            exit,
            vms: HashMap::new(),
            vcpus: HashMap::new(),
            reasons: HashMap::new(),
            lost_track: None,
            last_ns: 0,
            left_out: 0,
        })
    }

    /// The track of a vCPU; `None` if there is no room for another one.
    fn vcpu(&mut self, vcpu_id: &VcpuId, names: &Names) -> io::Result<Option<u64>> {
        if let Some(track) = self.vcpus.get(vcpu_id) {
            return Ok(Some(*track));
        }
        // A VM has a vCPU, so there are no more VMs than vCPUs.
        if self.vcpus.len() >= MOST_NAMED {
            return Ok(None);
        }
        let (pid, tid) = (i32::try_from(vcpu_id.tgid).ok(), vcpu_id.tid);
        if !self.vms.contains_key(&vcpu_id.tgid) {
            let vm = self.packets.track(TrackDescriptor {
                process: Some(ProcessDescriptor {
                    pid,
                    process_name: Some(names.vm(vcpu_id.tgid)),
                }),
                ..TrackDescriptor::default()
            })?;
            let counter = self.packets.track(TrackDescriptor {
                name: Some("exits/s".into()),
                parent_uuid: Some(vm),
                counter: Some(CounterDescriptor {
                    unit_name: Some("exits/s".into()),
                }),
                ..TrackDescriptor::default()
            })?;
            let vm = Vm {
                counter,
                interval: 0,
                exits: 0,
            };
            self.vms.insert(vcpu_id.tgid, vm);
        }
        let name = match vcpu_id.vcpu {
            VCPU_UNKNOWN => names.comm(vcpu_id.thread()).to_owned(),
            vcpu => format!("vCPU {vcpu}"),
        };
        let track = self.packets.track(TrackDescriptor {
            thread: Some(ThreadDescriptor {
                pid,
                tid: Some(tid.into()),
                thread_name: Some(name),
            }),
            ..TrackDescriptor::default()
        })?;
        self.vcpus.insert(*vcpu_id, track);
        Ok(Some(track))
    }

    fn reason(&mut self, key: Key) -> u64 {
        if self.reasons.len() >= MOST_KEY_NAMES {
            self.reasons.clear();
        }
        let (packets, exit) = (&mut self.packets, self.exit.as_ref());
        *self.reasons.entry(key).or_insert_with(|| {
            let code = u32::try_from(key.code).unwrap_or(u32::MAX);
            packets.name(&ReasonNames::of(exit).name(key.class, code))
        })
    }

    /// One more exit of a VM, in the order of their ends.
    fn count(&mut self, tgid: u32, time_ns: u64) -> io::Result<()> {
        let Some(vm) = self.vms.get_mut(&tgid) else {
            return Ok(());
        };
        let interval = time_ns / COUNTED_EVERY_NS;
        if interval > vm.interval {
            Self::write_count(&mut self.packets, vm, Some(interval))?;
            vm.interval = interval;
            vm.exits = 0;
        }
        vm.exits += 1;
        Ok(())
    }

    /// The count of an interval, and that there was none until the next that there is one of.
    fn write_count(packets: &mut Packets<W>, vm: &Vm, next: Option<u64>) -> io::Result<()> {
        if vm.exits == 0 {
            return Ok(());
        }
        let rate = vm.exits.saturating_mul(COUNTS_PER_SECOND);
        let from_ns = vm.interval.saturating_mul(COUNTED_EVERY_NS);
        packets.counter(vm.counter, from_ns, rate)?;
        if next.is_none_or(|it| it > vm.interval + 1) {
            packets.counter(vm.counter, from_ns.saturating_add(COUNTED_EVERY_NS), 0)?;
        }
        Ok(())
    }

    fn lost(&mut self, name: &str, time_ns: u64, notes: &[Note<'_>]) -> io::Result<()> {
        let track = match self.lost_track {
            Some(track) => track,
            None => self.packets.track(TrackDescriptor {
                name: Some("lost".into()),
                ..TrackDescriptor::default()
            })?,
        };
        self.lost_track = Some(track);
        let name = self.packets.name(name);
        self.packets.instant(track, time_ns, name, notes)
    }

    fn write_exit(
        &mut self,
        track: u64,
        segment: &Segment,
        exit: &Exit,
        parts: &[Segment],
    ) -> io::Result<()> {
        let name = self.reason(exit.key);
        let (from_ns, to_ns) = (segment.from_ns, segment.to_ns);
        let rip = Note::Address("guest_rip", exit.guest_rip);
        match exit.end {
            // A slice without an end would be drawn to the end of the trace, as if it were known.
            ExitEnd::Unseen => {
                let notes = [rip, Note::Flag("untimed", true)];
                return self.packets.instant(track, from_ns, name, &notes);
            }
            ExitEnd::Open => {
                let notes = [rip, Note::Flag("open", true)];
                self.packets.begin_slice(track, from_ns, name, &notes)?;
            }
            ExitEnd::Entry => self.packets.begin_slice(track, from_ns, name, &[rip])?,
        }
        // Slices of a track have to lie within one another, whatever the recording says.
        let mut open = vec![(from_ns, to_ns)];
        for part in parts {
            let VcpuState::Part(place) = part.state else {
                continue;
            };
            while let [_, .., (_, end_ns)] = open[..]
                && end_ns <= part.from_ns
            {
                self.packets.end_slice(track, end_ns)?;
                open.pop();
            }
            let (at_least_ns, at_most_ns) = open.last().copied().unwrap_or((from_ns, to_ns));
            let began_ns = part.from_ns.clamp(at_least_ns, at_most_ns);
            let ended_ns = part.to_ns.clamp(began_ns, at_most_ns);
            let name = self.packets.name(match place {
                Part::Vmm => "VMM user space",
                Part::Halted => "halted",
                Part::Preempted => "preempted",
            });
            self.packets.begin_slice(track, began_ns, name, &[])?;
            open.push((began_ns, ended_ns));
        }
        while let Some((_, end_ns)) = open.pop() {
            self.packets.end_slice(track, end_ns)?;
        }
        Ok(())
    }
}

impl<W: Write> Sink for Perfetto<W> {
    fn guest(&mut self, guest: &Segment, names: &Names) -> io::Result<()> {
        let Some(track) = self.vcpu(&guest.vcpu_id, names)? else {
            return Ok(());
        };
        let name = self.packets.name("guest");
        self.packets.begin_slice(track, guest.from_ns, name, &[])?;
        self.packets.end_slice(track, guest.to_ns)
    }

    fn exit(&mut self, exit: &Segment, parts: &[Segment], names: &Names) -> io::Result<()> {
        let Some(track) = self.vcpu(&exit.vcpu_id, names)? else {
            self.left_out += 1;
            return Ok(());
        };
        if let VcpuState::Exit(what) = &exit.state {
            self.write_exit(track, exit, what, parts)?;
        }
        self.last_ns = self.last_ns.max(exit.to_ns);
        self.count(exit.vcpu_id.tgid, exit.to_ns)
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        let time_ns = match gap.time_ns {
            0 => self.last_ns,
            time_ns => time_ns,
        };
        let name = match gap.event {
            Some(event) => format!("lost {}", event.name),
            None => "lost events".into(),
        };
        self.lost(&name, time_ns, &[Note::Number("lost", gap.lost)])
    }

    fn loss(&self) -> Loss {
        Loss {
            map_full: self.left_out,
            ..Loss::default()
        }
    }

    fn finish(&mut self, end: &End<'_>) -> io::Result<()> {
        for vm in self.vms.values() {
            Self::write_count(&mut self.packets, vm, None)?;
        }
        let loss = end.loss.plus(&self.loss());
        if !loss.is_none() {
            let entries = loss.entries().into_iter();
            let mut notes: Vec<_> = entries
                .filter_map(|it| Some(Note::Number(it.name, it.count?)))
                .collect();
            notes.push(Note::Text("defect", end.defect.unwrap_or_default()));
            self.lost("not all is here", end.time_ns, &notes)?;
        }
        self.packets.flush()
    }
}
