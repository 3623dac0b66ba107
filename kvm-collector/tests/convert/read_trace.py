"""Reads a trace with Perfetto's protobuf messages, and prints its tracks, slices, instants and counters as JSON.

Interned names are resolved, and slices of a track are nested, as Perfetto's trace processor does it."""

import json
import sys

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

trace = Trace()
with open(sys.argv[1], "rb") as file:
    trace.ParseFromString(file.read())

tracks, names, annotation_names, texts, clock, kernel = {}, {}, {}, {}, None, None
slices, instants, counts, open_slices = [], [], [], {}
events = []
for packet in trace.packet:
    assert packet.trusted_packet_sequence_id == 1
    if packet.HasField("clock_snapshot"):
        clock = packet.clock_snapshot.primary_trace_clock
        assert packet.trace_packet_defaults.timestamp_clock_id == clock
        assert packet.sequence_flags == 1
    if packet.HasField("track_descriptor"):
        it = packet.track_descriptor
        name = it.process.process_name or it.thread.thread_name or it.name
        kind = "process" if it.HasField("process") else "thread" if it.HasField("thread") else "counter" if it.HasField("counter") else "track"
        assert it.uuid not in tracks
        tracks[it.uuid] = {"name": name, "kind": kind, "pid": it.process.pid or it.thread.pid, "tid": it.thread.tid, "parent": it.parent_uuid, "labels": list(it.process.process_labels)}
    for it in packet.interned_data.event_names:
        names[it.iid] = it.name
    for it in packet.interned_data.debug_annotation_names:
        annotation_names[it.iid] = it.name
    for it in packet.interned_data.debug_annotation_string_values:
        texts[it.iid] = it.str.decode()
    if packet.HasField("system_info"):
        kernel = packet.system_info.utsname.release
        assert packet.system_info.tracing_service_version.startswith("kvm-collector ")
    if packet.HasField("track_event"):
        it = packet.track_event
        assert it.track_uuid in tracks
        annotations = {}
        for note in it.debug_annotations:
            value = getattr(note, note.WhichOneof("value"))
            if note.WhichOneof("value") == "string_value_iid":
                value = texts[value]
            annotations[annotation_names[note.name_iid]] = value
        name = names[it.name_iid] if it.name_iid else None
        events.append((packet.timestamp, it.type, it.track_uuid, name, annotations, it.counter_value))

# The trace processor sorts events by time, too. Simultaneous events stay in their order.
events.sort(key=lambda it: it[0])
for time, kind, track, name, annotations, value in events:
    stack = open_slices.setdefault(track, [])
    if kind == TrackEvent.TYPE_SLICE_BEGIN:
        stack.append({"track": tracks[track]["name"], "tid": tracks[track]["tid"], "name": name, "from": time, "depth": len(stack), "notes": annotations})
        slices.append(stack[-1])
    elif kind == TrackEvent.TYPE_SLICE_END:
        stack.pop()["to"] = time
    elif kind == TrackEvent.TYPE_INSTANT:
        instants.append({"track": tracks[track]["name"], "name": name, "at": time, "notes": annotations})
    else:
        assert kind == TrackEvent.TYPE_COUNTER
        counts.append({"track": tracks[track]["name"], "at": time, "value": value})
assert not any(open_slices.values()), "slices have no end"
json.dump({"clock": clock, "kernel": kernel, "tracks": list(tracks.values()), "slices": slices, "instants": instants, "counts": counts}, sys.stdout)
