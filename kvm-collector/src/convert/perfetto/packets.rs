//! Packets, one by one, with names written once.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use prost::Message as _;

use crate::model::capacity::MOST_KEY_NAMES;

use super::proto::{
    COUNTER, Clock, ClockSnapshot, DebugAnnotation, INCREMENTAL_STATE_CLEARED, INSTANT,
    InternedData, InternedName, NEEDS_INCREMENTAL_STATE, SLICE_BEGIN, SLICE_END, TracePacket,
    TracePacketDefaults, TrackDescriptor, TrackEvent,
};

/// The only sequence of packets there is; 0 is none.
const SEQUENCE: u32 = 1;
/// `Trace.packet`: field 1, with a length.
const PACKET: u8 = 1 << 3 | 2;

/// `BuiltinClock` in perfetto_trace.proto.
mod clock {
    pub(super) const REALTIME: u32 = 1;
    pub(super) const MONOTONIC: u32 = 3;
    pub(super) const MONOTONIC_RAW: u32 = 5;
    pub(super) const BOOTTIME: u32 = 6;
}

/// Something to be said of a slice.
#[derive(Debug, Clone, Copy)]
pub(super) enum Note<'a> {
    Number(&'static str, u64),
    Address(&'static str, u64),
    Flag(&'static str, bool),
    Text(&'static str, &'a str),
}

/// Writes packets.
#[derive(Debug)]
pub(super) struct Packets<W> {
    out: W,
    buffer: Vec<u8>,
    tracks: u64,
    names: HashMap<Box<str>, u64>,
    /// The number of the last name.
    last_name: u64,
    note_names: HashMap<&'static str, u64>,
    /// Names that no packet has told yet.
    new: InternedData,
}

impl<W: Write> Packets<W> {
    pub(super) fn begin(of: Option<u32>, clocks: Option<(u64, u64)>, out: W) -> io::Result<Self> {
        let mut packets = Self {
            out,
            buffer: Vec::with_capacity(256),
            tracks: 0,
            names: HashMap::new(),
            last_name: 0,
            note_names: HashMap::new(),
            new: InternedData::default(),
        };
        // perf's own clock has no number here, and runs nearly as the monotonic one.
        let of = match of.map(i32::try_from) {
            Some(Ok(libc::CLOCK_REALTIME)) => clock::REALTIME,
            Some(Ok(libc::CLOCK_MONOTONIC_RAW)) => clock::MONOTONIC_RAW,
            Some(Ok(libc::CLOCK_BOOTTIME)) => clock::BOOTTIME,
            _ => clock::MONOTONIC,
        };
        let moment = |clock_id, timestamp| Clock {
            clock_id: Some(clock_id),
            timestamp: Some(timestamp),
        };
        let mut snapshot = vec![moment(of, clocks.map_or(0, |it| it.1))];
        if let Some((wall_ns, _)) = clocks
            && of != clock::REALTIME
        {
            snapshot.push(moment(clock::REALTIME, wall_ns));
        }
        packets.write(&TracePacket {
            sequence_flags: Some(INCREMENTAL_STATE_CLEARED),
            trace_packet_defaults: Some(TracePacketDefaults {
                timestamp_clock_id: Some(of),
            }),
            clock_snapshot: Some(ClockSnapshot {
                clocks: snapshot,
                primary_trace_clock: Some(of),
            }),
            ..packet()
        })?;
        Ok(packets)
    }

    /// The number of a name. There are few; if not, some have several numbers.
    pub(super) fn name(&mut self, name: &str) -> u64 {
        if let Some(iid) = self.names.get(name) {
            return *iid;
        }
        if self.names.len() >= MOST_KEY_NAMES {
            self.names.clear();
        }
        self.last_name += 1;
        let iid = self.last_name;
        self.names.insert(name.into(), iid);
        self.new.event_names.push(interned(iid, name));
        iid
    }

    /// Tells of a track, and gives it a number.
    pub(super) fn track(&mut self, descriptor: TrackDescriptor) -> io::Result<u64> {
        self.tracks += 1;
        self.write(&TracePacket {
            track_descriptor: Some(TrackDescriptor {
                uuid: Some(self.tracks),
                ..descriptor
            }),
            ..packet()
        })?;
        Ok(self.tracks)
    }

    pub(super) fn begin_slice(
        &mut self,
        track: u64,
        time_ns: u64,
        name: u64,
        notes: &[Note<'_>],
    ) -> io::Result<()> {
        self.event(SLICE_BEGIN, track, time_ns, Some(name), notes, None)
    }

    pub(super) fn end_slice(&mut self, track: u64, time_ns: u64) -> io::Result<()> {
        self.event(SLICE_END, track, time_ns, None, &[], None)
    }

    pub(super) fn instant(
        &mut self,
        track: u64,
        time_ns: u64,
        name: u64,
        notes: &[Note<'_>],
    ) -> io::Result<()> {
        self.event(INSTANT, track, time_ns, Some(name), notes, None)
    }

    pub(super) fn counter(&mut self, track: u64, time_ns: u64, value: u64) -> io::Result<()> {
        self.event(COUNTER, track, time_ns, None, &[], Some(value))
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn event(
        &mut self,
        of: u32,
        track: u64,
        time_ns: u64,
        name_iid: Option<u64>,
        notes: &[Note<'_>],
        value: Option<u64>,
    ) -> io::Result<()> {
        let debug_annotations = notes.iter().map(|note| self.note(note)).collect();
        let interned_data = if self.new == InternedData::default() {
            None
        } else {
            Some(std::mem::take(&mut self.new))
        };
        self.write(&TracePacket {
            timestamp: Some(time_ns),
            interned_data,
            track_event: Some(TrackEvent {
                debug_annotations,
                r#type: Some(of),
                name_iid,
                track_uuid: Some(track),
                counter_value: value.map(|it| i64::try_from(it).unwrap_or(i64::MAX)),
            }),
            ..packet()
        })
    }

    fn note(&mut self, note: &Note<'_>) -> DebugAnnotation {
        let (Note::Number(name, _)
        | Note::Address(name, _)
        | Note::Flag(name, _)
        | Note::Text(name, _)) = *note;
        let next = self.note_names.len() as u64 + 1;
        let new = &mut self.new.debug_annotation_names;
        let iid = *self.note_names.entry(name).or_insert_with(|| {
            new.push(interned(next, name));
            next
        });
        let mut annotation = DebugAnnotation {
            name_iid: Some(iid),
            ..DebugAnnotation::default()
        };
        match *note {
            Note::Number(_, number) => annotation.uint_value = Some(number),
            Note::Address(_, address) => annotation.pointer_value = Some(address),
            Note::Flag(_, flag) => annotation.bool_value = Some(flag),
            Note::Text(_, text) => annotation.string_value = Some(text.to_owned()),
        }
        annotation
    }

    /// A trace is nothing but its packets, so each is written when it is there.
    fn write(&mut self, packet: &TracePacket) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.push(PACKET);
        packet
            .encode_length_delimited(&mut self.buffer)
            .map_err(io::Error::other)?;
        self.out.write_all(&self.buffer)
    }
}

fn packet() -> TracePacket {
    TracePacket {
        trusted_packet_sequence_id: Some(SEQUENCE),
        sequence_flags: Some(NEEDS_INCREMENTAL_STATE),
        ..TracePacket::default()
    }
}

fn interned(iid: u64, name: &str) -> InternedName {
    InternedName {
        iid: Some(iid),
        name: Some(name.to_owned()),
    }
}
