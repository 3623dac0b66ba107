//! Writes traces in Perfetto's format, for <https://ui.perfetto.dev>. Each VM is a process and each vCPU a
//! thread. A thread has slices for time in the guest and for exits; slices within an exit are its parts.

mod packets;
mod proto;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use self::{
    packets::{Annotation, PacketWriter},
    proto::{CounterDescriptor, ProcessDescriptor, ThreadDescriptor, TrackDescriptor},
};
use super::sink::{Gap, RecordingEnd, Sink};
use crate::{
    model::{
        Exit, ExitEnd, ExitPart, Loss, Segment, VcpuId, VcpuState, capacity::MAX_KNOWN_TASKS,
        pid_of,
    },
    source::RecordedNames,
    view::{ExitNames, OutputHeader, ReportOrigin},
};
use kvm_ebpf_common::VCPU_UNKNOWN;

/// The interval of the counter for exits per second.
const COUNTER_INTERVAL_NS: u64 = 10_000_000;
const INTERVALS_PER_SECOND: u64 = 1_000_000_000 / COUNTER_INTERVAL_NS;

/// A trace file.
#[derive(Debug)]
pub struct Perfetto<W> {
    packets: PacketWriter<W>,
    names: ExitNames,
    /// The name of the host and the id of its boot, as far as they are known.
    host_labels: Vec<String>,
    /// By TGID of the VM.
    exit_counters: HashMap<u32, ExitCounter>,
    vcpu_tracks: HashMap<VcpuId, u64>,
    /// The track for lost events.
    lost_track: Option<u64>,
    /// The end of the last exit.
    last_ns: u64,
    /// Number of exits of vCPUs that have no track, because there are too many vCPUs.
    omitted_exits: u64,
}

/// Counts the exits of a VM per interval.
#[derive(Debug)]
struct ExitCounter {
    track: u64,
    /// The start of the current interval, in units of [`COUNTER_INTERVAL_NS`].
    interval: u64,
    exits: u64,
}

/// Returns the labels that each process has, because a trace can be merged with those of other hosts.
fn host_labels(header: &OutputHeader) -> Vec<String> {
    let host = header.host.iter().map(|it| format!("host {it}"));
    let boot_id = header.boot_id.iter().map(|it| format!("boot_id {it}"));
    host.chain(boot_id).collect()
}

impl<W: Write> Perfetto<W> {
    /// Starts a trace of a host. `clock` is the kernel's id of the clock of the recording. `clock_pair` is
    /// `CLOCK_REALTIME` and this clock, read at the same time, in ns.
    ///
    /// # Errors
    /// If writing fails.
    pub fn new(
        names: ExitNames,
        origin: &ReportOrigin,
        clock: Option<u32>,
        clock_pair: Option<(u64, u64)>,
        out: W,
    ) -> io::Result<Self> {
        Ok(Self {
            packets: PacketWriter::new(clock, clock_pair, origin, out)?,
            names,
            host_labels: host_labels(&origin.header),
            exit_counters: HashMap::new(),
            vcpu_tracks: HashMap::new(),
            lost_track: None,
            last_ns: 0,
            omitted_exits: 0,
        })
    }

    /// Returns the track of a vCPU, and adds it if necessary. `None` if there are too many vCPUs.
    fn vcpu_track(&mut self, vcpu_id: &VcpuId, names: &RecordedNames) -> io::Result<Option<u64>> {
        if let Some(track) = self.vcpu_tracks.get(vcpu_id) {
            return Ok(Some(*track));
        }
        // This also bounds the number of VMs, since each has at least one vCPU.
        if self.vcpu_tracks.len() >= MAX_KNOWN_TASKS {
            return Ok(None);
        }
        let (pid, tid) = (i32::try_from(pid_of(vcpu_id.tgid)).ok(), vcpu_id.tid);
        if !self.exit_counters.contains_key(&vcpu_id.tgid) {
            let vm = names.vm_name(vcpu_id.tgid);
            let uuid = vm.uuid.map(|it| format!("vm_uuid {it}"));
            let process_track = self.packets.add_track(TrackDescriptor {
                process: Some(ProcessDescriptor {
                    pid,
                    process_name: Some(vm.name),
                    process_labels: self.host_labels.iter().cloned().chain(uuid).collect(),
                }),
                ..TrackDescriptor::default()
            })?;
            let counter_track = self.packets.add_track(TrackDescriptor {
                name: Some("exits/s".into()),
                parent_uuid: Some(process_track),
                counter: Some(CounterDescriptor {
                    unit_name: Some("exits/s".into()),
                }),
                ..TrackDescriptor::default()
            })?;
            let exit_counter = ExitCounter {
                track: counter_track,
                interval: 0,
                exits: 0,
            };
            self.exit_counters.insert(vcpu_id.tgid, exit_counter);
        }
        let name = match vcpu_id.vcpu {
            VCPU_UNKNOWN => names.comm(vcpu_id.thread()).to_owned(),
            vcpu => format!("vCPU {vcpu}"),
        };
        let track = self.packets.add_track(TrackDescriptor {
            thread: Some(ThreadDescriptor {
                pid,
                tid: Some(tid.into()),
                thread_name: Some(name),
            }),
            ..TrackDescriptor::default()
        })?;
        self.vcpu_tracks.insert(*vcpu_id, track);
        Ok(Some(track))
    }

    /// Counts an exit of a VM. Must be called in the order in which the exits end.
    fn count_exit(&mut self, tgid: u32, time_ns: u64) -> io::Result<()> {
        let Some(counter) = self.exit_counters.get_mut(&tgid) else {
            return Ok(());
        };
        let interval = time_ns / COUNTER_INTERVAL_NS;
        if interval > counter.interval {
            Self::write_count(&mut self.packets, counter, Some(interval))?;
            counter.interval = interval;
            counter.exits = 0;
        }
        counter.exits += 1;
        Ok(())
    }

    /// Writes the rate of the current interval. If `next`, the next interval with exits, does not follow
    /// directly, also writes that the rate is 0 in between.
    fn write_count(
        packets: &mut PacketWriter<W>,
        counter: &ExitCounter,
        next: Option<u64>,
    ) -> io::Result<()> {
        if counter.exits == 0 {
            return Ok(());
        }
        let rate = counter.exits.saturating_mul(INTERVALS_PER_SECOND);
        let from_ns = counter.interval.saturating_mul(COUNTER_INTERVAL_NS);
        packets.write_counter(counter.track, from_ns, rate)?;
        if next.is_none_or(|it| it > counter.interval + 1) {
            packets.write_counter(
                counter.track,
                from_ns.saturating_add(COUNTER_INTERVAL_NS),
                0,
            )?;
        }
        Ok(())
    }

    fn write_loss(
        &mut self,
        name: &str,
        time_ns: u64,
        annotations: &[Annotation<'_>],
    ) -> io::Result<()> {
        let track = match self.lost_track {
            Some(track) => track,
            None => self.packets.add_track(TrackDescriptor {
                name: Some("lost".into()),
                ..TrackDescriptor::default()
            })?,
        };
        self.lost_track = Some(track);
        let name = self.packets.intern_name(name);
        self.packets
            .write_instant(track, time_ns, name, annotations)
    }

    fn write_exit(
        &mut self,
        track: u64,
        segment: &Segment,
        exit: &Exit,
        parts: &[Segment],
    ) -> io::Result<()> {
        let (from_ns, to_ns) = (segment.from_ns, segment.to_ns);
        let (reason, cause) = self.names.of_exit(exit);
        let name = self.packets.intern_name(&reason.reason);
        let mut annotations = vec![Annotation::RepeatedText("reason", &reason.reason)];
        let vcpu = segment.vcpu_id.vcpu;
        if vcpu != VCPU_UNKNOWN {
            annotations.push(Annotation::Number("vcpu", vcpu.into()));
        }
        if let Some(cause) = cause {
            annotations.extend([
                Annotation::RepeatedText("cause_kind", &cause.kind),
                Annotation::Number("cause_code", cause.code),
                Annotation::RepeatedText("cause", &cause.label),
            ]);
            let name = cause.name.as_deref();
            annotations.extend(name.map(|it| Annotation::RepeatedText("cause_name", it)));
        }
        annotations.push(Annotation::Address("guest_rip", exit.guest_rip));
        match exit.end {
            // Perfetto would draw a slice without an end up to the end of the trace.
            ExitEnd::UnknownEnd => {
                annotations.push(Annotation::Bool("is_untimed", true));
                return self
                    .packets
                    .write_instant(track, from_ns, name, &annotations);
            }
            ExitEnd::InProgress => annotations.push(Annotation::Bool("is_open", true)),
            ExitEnd::Entry => {}
        }
        self.packets
            .begin_slice(track, from_ns, name, &annotations)?;
        // Perfetto requires the slices of a track to be nested. Clamp parts to the slice that they start in,
        // because a recording may be inconsistent.
        let mut open_slices = vec![(from_ns, to_ns)];
        for part in parts {
            let VcpuState::Part(kind) = part.state else {
                continue;
            };
            while let [_, .., (_, end_ns)] = open_slices[..]
                && end_ns <= part.from_ns
            {
                self.packets.end_slice(track, end_ns)?;
                open_slices.pop();
            }
            let (outer_from_ns, outer_to_ns) =
                open_slices.last().copied().unwrap_or((from_ns, to_ns));
            let part_from_ns = part.from_ns.clamp(outer_from_ns, outer_to_ns);
            let part_to_ns = part.to_ns.clamp(part_from_ns, outer_to_ns);
            let name = self.packets.intern_name(match kind {
                ExitPart::Vmm => "VMM user space",
                ExitPart::Halted => "halted",
                ExitPart::Preempted => "preempted",
            });
            self.packets.begin_slice(track, part_from_ns, name, &[])?;
            open_slices.push((part_from_ns, part_to_ns));
        }
        while let Some((_, end_ns)) = open_slices.pop() {
            self.packets.end_slice(track, end_ns)?;
        }
        Ok(())
    }
}

impl<W: Write> Sink for Perfetto<W> {
    fn guest(&mut self, guest: &Segment, names: &RecordedNames) -> io::Result<()> {
        let Some(track) = self.vcpu_track(&guest.vcpu_id, names)? else {
            return Ok(());
        };
        let name = self.packets.intern_name("guest");
        self.packets.begin_slice(track, guest.from_ns, name, &[])?;
        self.packets.end_slice(track, guest.to_ns)
    }

    fn exit(&mut self, exit: &Segment, parts: &[Segment], names: &RecordedNames) -> io::Result<()> {
        let Some(track) = self.vcpu_track(&exit.vcpu_id, names)? else {
            self.omitted_exits += 1;
            return Ok(());
        };
        if let VcpuState::Exit(details) = &exit.state {
            self.write_exit(track, exit, details, parts)?;
        }
        self.last_ns = self.last_ns.max(exit.to_ns);
        self.count_exit(exit.vcpu_id.tgid, exit.to_ns)
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        let time_ns = match gap.time_ns {
            0 => self.last_ns,
            time_ns => time_ns,
        };
        let name = match gap.event {
            Some(event) => format!("lost {event}"),
            None => "lost events".into(),
        };
        self.write_loss(&name, time_ns, &[Annotation::Number("lost", gap.lost)])
    }

    fn own_loss(&self) -> Loss {
        Loss {
            map_full: self.omitted_exits,
            ..Loss::default()
        }
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        for counter in self.exit_counters.values() {
            Self::write_count(&mut self.packets, counter, None)?;
        }
        let loss = end.loss.plus(&self.own_loss());
        if !loss.is_empty() {
            let entries = loss.entries().into_iter();
            let mut annotations: Vec<_> = entries
                .filter_map(|it| Some(Annotation::Number(it.name, it.count?)))
                .collect();
            annotations.push(Annotation::Text("defect", end.defect.unwrap_or_default()));
            self.write_loss("incomplete recording", end.time_ns, &annotations)?;
        }
        self.packets.flush()
    }
}
