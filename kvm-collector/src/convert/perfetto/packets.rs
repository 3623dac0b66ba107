//! Writes the packets of a trace. A name is written once and then referred to by a number (interning).

use std::{
    collections::HashMap,
    io::{self, Write},
};

use prost::Message as _;

use crate::{model::capacity::MAX_KEY_NAMES, view::ReportOrigin};

use super::proto::{
    COUNTER, Clock, ClockSnapshot, DebugAnnotation, INCREMENTAL_STATE_CLEARED, INSTANT,
    InternedData, InternedName, NEEDS_INCREMENTAL_STATE, SLICE_BEGIN, SLICE_END, SystemInfo,
    TracePacket, TracePacketDefaults, TrackDescriptor, TrackEvent, Utsname,
};

/// The id of the packet sequence. The trace has only one; 0 is not a valid id.
const SEQUENCE_ID: u32 = 1;
/// The protobuf tag of `Trace.packet`: field 1, length-delimited.
const PACKET_TAG: u8 = 1 << 3 | 2;

/// Perfetto's clock ids: `BuiltinClock` in perfetto_trace.proto.
mod clock {
    pub(super) const REALTIME: u32 = 1;
    pub(super) const MONOTONIC: u32 = 3;
    pub(super) const MONOTONIC_RAW: u32 = 5;
    pub(super) const BOOTTIME: u32 = 6;
}

/// A named value that Perfetto shows with a slice or an instant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Annotation<'a> {
    Number(&'static str, u64),
    Address(&'static str, u64),
    Bool(&'static str, bool),
    Text(&'static str, &'a str),
    /// A text that occurs often. It is written once.
    RepeatedText(&'static str, &'a str),
}

/// Writes packets to a file.
#[derive(Debug)]
pub(super) struct PacketWriter<W> {
    out: W,
    buffer: Vec<u8>,
    /// The number of the last track.
    last_track: u64,
    name_ids: HashMap<Box<str>, u64>,
    /// The id of the last name.
    last_name_id: u64,
    annotation_name_ids: HashMap<&'static str, u64>,
    text_ids: HashMap<Box<str>, u64>,
    /// The id of the last repeated text.
    last_text_id: u64,
    /// Names to be written with the next event.
    unwritten_names: InternedData,
}

impl<W: Write> PacketWriter<W> {
    /// Starts a trace with the packets about its clock and its host.
    pub(super) fn new(
        kernel_clock: Option<u32>,
        clock_pair: Option<(u64, u64)>,
        origin: &ReportOrigin,
        out: W,
    ) -> io::Result<Self> {
        let mut packets = Self {
            out,
            buffer: Vec::with_capacity(256),
            last_track: 0,
            name_ids: HashMap::new(),
            last_name_id: 0,
            annotation_name_ids: HashMap::new(),
            text_ids: HashMap::new(),
            last_text_id: 0,
            unwritten_names: InternedData::default(),
        };
        // Perfetto has no id for perf's own clock, which differs little from CLOCK_MONOTONIC.
        let clock = match kernel_clock.map(i32::try_from) {
            Some(Ok(libc::CLOCK_REALTIME)) => clock::REALTIME,
            Some(Ok(libc::CLOCK_MONOTONIC_RAW)) => clock::MONOTONIC_RAW,
            Some(Ok(libc::CLOCK_BOOTTIME)) => clock::BOOTTIME,
            _ => clock::MONOTONIC,
        };
        let reading = |clock_id, timestamp| Clock {
            clock_id: Some(clock_id),
            timestamp: Some(timestamp),
        };
        let mut snapshot = vec![reading(clock, clock_pair.map_or(0, |it| it.1))];
        if let Some((realtime_ns, _)) = clock_pair
            && clock != clock::REALTIME
        {
            snapshot.push(reading(clock::REALTIME, realtime_ns));
        }
        packets.write(&TracePacket {
            sequence_flags: Some(INCREMENTAL_STATE_CLEARED),
            trace_packet_defaults: Some(TracePacketDefaults {
                timestamp_clock_id: Some(clock),
            }),
            clock_snapshot: Some(ClockSnapshot {
                clocks: snapshot,
                primary_trace_clock: Some(clock),
            }),
            ..new_packet()
        })?;
        packets.write(&TracePacket {
            system_info: Some(SystemInfo {
                utsname: origin.header.kernel.as_ref().map(|release| Utsname {
                    sysname: Some("Linux".into()),
                    release: Some(release.clone()),
                }),
                tracing_service_version: Some(format!(
                    "kvm-collector {}",
                    origin.header.tool_version
                )),
            }),
            ..new_packet()
        })?;
        Ok(packets)
    }

    /// Returns the id of a text that occurs often. Clears the table of texts when it is full.
    fn intern_text(&mut self, text: &str) -> u64 {
        if let Some(iid) = self.text_ids.get(text) {
            return *iid;
        }
        if self.text_ids.len() >= MAX_KEY_NAMES {
            self.text_ids.clear();
        }
        self.last_text_id += 1;
        let iid = self.last_text_id;
        self.text_ids.insert(text.into(), iid);
        let texts = &mut self.unwritten_names.debug_annotation_string_values;
        texts.push(interned_name(iid, text));
        iid
    }

    /// Returns the id of a name. Clears the table of names when it is full, so a name may get several ids.
    pub(super) fn intern_name(&mut self, name: &str) -> u64 {
        if let Some(iid) = self.name_ids.get(name) {
            return *iid;
        }
        if self.name_ids.len() >= MAX_KEY_NAMES {
            self.name_ids.clear();
        }
        self.last_name_id += 1;
        let iid = self.last_name_id;
        self.name_ids.insert(name.into(), iid);
        self.unwritten_names
            .event_names
            .push(interned_name(iid, name));
        iid
    }

    /// Adds a track, and returns its number.
    pub(super) fn add_track(&mut self, descriptor: TrackDescriptor) -> io::Result<u64> {
        self.last_track += 1;
        self.write(&TracePacket {
            track_descriptor: Some(TrackDescriptor {
                uuid: Some(self.last_track),
                ..descriptor
            }),
            ..new_packet()
        })?;
        Ok(self.last_track)
    }

    pub(super) fn begin_slice(
        &mut self,
        track: u64,
        time_ns: u64,
        name: u64,
        annotations: &[Annotation<'_>],
    ) -> io::Result<()> {
        self.write_event(SLICE_BEGIN, track, time_ns, Some(name), annotations, None)
    }

    pub(super) fn end_slice(&mut self, track: u64, time_ns: u64) -> io::Result<()> {
        self.write_event(SLICE_END, track, time_ns, None, &[], None)
    }

    pub(super) fn write_instant(
        &mut self,
        track: u64,
        time_ns: u64,
        name: u64,
        annotations: &[Annotation<'_>],
    ) -> io::Result<()> {
        self.write_event(INSTANT, track, time_ns, Some(name), annotations, None)
    }

    pub(super) fn write_counter(&mut self, track: u64, time_ns: u64, value: u64) -> io::Result<()> {
        self.write_event(COUNTER, track, time_ns, None, &[], Some(value))
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn write_event(
        &mut self,
        event_type: u32,
        track: u64,
        time_ns: u64,
        name_iid: Option<u64>,
        annotations: &[Annotation<'_>],
        value: Option<u64>,
    ) -> io::Result<()> {
        let debug_annotations = annotations
            .iter()
            .map(|annotation| self.build_annotation(annotation))
            .collect();
        let interned_data = if self.unwritten_names == InternedData::default() {
            None
        } else {
            Some(std::mem::take(&mut self.unwritten_names))
        };
        self.write(&TracePacket {
            timestamp: Some(time_ns),
            interned_data,
            track_event: Some(TrackEvent {
                debug_annotations,
                r#type: Some(event_type),
                name_iid,
                track_uuid: Some(track),
                counter_value: value.map(|it| i64::try_from(it).unwrap_or(i64::MAX)),
            }),
            ..new_packet()
        })
    }

    fn build_annotation(&mut self, annotation: &Annotation<'_>) -> DebugAnnotation {
        let (Annotation::Number(name, _)
        | Annotation::Address(name, _)
        | Annotation::Bool(name, _)
        | Annotation::Text(name, _)
        | Annotation::RepeatedText(name, _)) = *annotation;
        let next_id = self.annotation_name_ids.len() as u64 + 1;
        let unwritten_names = &mut self.unwritten_names.debug_annotation_names;
        let iid = *self.annotation_name_ids.entry(name).or_insert_with(|| {
            unwritten_names.push(interned_name(next_id, name));
            next_id
        });
        let mut message = DebugAnnotation {
            name_iid: Some(iid),
            ..DebugAnnotation::default()
        };
        match *annotation {
            Annotation::Number(_, number) => message.uint_value = Some(number),
            Annotation::Address(_, address) => message.pointer_value = Some(address),
            Annotation::Bool(_, value) => message.bool_value = Some(value),
            Annotation::Text(_, text) => message.string_value = Some(text.to_owned()),
            Annotation::RepeatedText(_, text) => {
                message.string_value_iid = Some(self.intern_text(text));
            }
        }
        message
    }

    /// Writes a packet. A trace has no header or index, so this is all that is needed.
    fn write(&mut self, packet: &TracePacket) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.push(PACKET_TAG);
        packet
            .encode_length_delimited(&mut self.buffer)
            .map_err(io::Error::other)?;
        self.out.write_all(&self.buffer)
    }
}

fn new_packet() -> TracePacket {
    TracePacket {
        trusted_packet_sequence_id: Some(SEQUENCE_ID),
        sequence_flags: Some(NEEDS_INCREMENTAL_STATE),
        ..TracePacket::default()
    }
}

fn interned_name(iid: u64, name: &str) -> InternedName {
    InternedName {
        iid: Some(iid),
        name: Some(name.to_owned()),
    }
}
