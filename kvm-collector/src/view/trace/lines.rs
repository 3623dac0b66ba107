//! Writes one line per event, in the format of `trace_pipe`.

use std::{
    cell::RefCell,
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;

use super::{ItemNames, columns, fields_json::EventObject};
use crate::{
    model::{Event, EventCount, VmName},
    outside_text::{OutsideText, escape_end, write_json},
    tracefs::{EventName, Format},
    view::{JsonLine, ReportOrigin, SelectedBy, VmCache},
};

/// The format of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// The text that the kernel would print.
    Kernel,
    /// `name=value` for each field.
    Fields,
    /// One JSON object per line.
    Json,
}

/// The time that a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceClock {
    /// `CLOCK_MONOTONIC` in seconds, as with ftrace's `mono` clock.
    Mono,
    /// Date and time in UTC.
    Wall {
        /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, in ns.
        offset_ns: u64,
    },
    /// Seconds since the previous line.
    Delta,
}

/// Writes events as lines. Text lines have no control characters except the line break, whatever a recording contains. It reuses its buffers, so it does not allocate per event.
#[derive(Debug)]
pub struct TraceLines {
    format: TraceFormat,
    color: bool,
    clock: TraceClock,
    line: Vec<u8>,
    /// Buffer for the name of a value.
    name: RefCell<Vec<u8>>,
    /// The host of the events, for JSON.
    origin: ReportOrigin,
    vms: VmCache,
    /// Time of the previous line.
    last_ns: Option<u64>,
    printed: u64,
    /// Number of lost events that were reported, by index of the format.
    reported_lost: Vec<u64>,
}

impl TraceLines {
    /// Creates a writer. `events` is the number of event formats.
    #[must_use]
    pub fn new(events: usize, format: TraceFormat, clock: TraceClock, color: bool) -> Self {
        Self {
            format,
            color,
            clock,
            last_ns: None,
            line: Vec::with_capacity(512),
            name: RefCell::new(Vec::with_capacity(64)),
            origin: ReportOrigin::new(SelectedBy::default()),
            vms: VmCache::default(),
            printed: 0,
            reported_lost: vec![0; events],
        }
    }

    /// Sets the host and the date of the events, which JSON shows.
    #[must_use]
    pub fn with_origin(self, origin: ReportOrigin) -> Self {
        Self { origin, ..self }
    }

    /// Returns whether the lines are JSON, which has the VM and the vCPU of each event.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == TraceFormat::Json
    }

    /// Returns the name of the VM of a process.
    pub(super) fn vm_name(&mut self, tgid: u32, names: ItemNames<'_>) -> &VmName {
        &self.vms.find(tgid, names.vm_name).name
    }

    /// Removes what is known of a thread that has ended.
    pub fn remove_thread(&mut self, tid: u32) {
        self.vms.remove_thread(tid);
    }

    /// Returns the number of lines that were written.
    #[must_use]
    pub fn printed(&self) -> u64 {
        self.printed
    }

    /// Updates the offset of the wall clock, which may have been set meanwhile. Text with another clock does not
    /// show it.
    pub fn set_wall_offset(&mut self, new_ns: u64) {
        self.origin.wall_offset_ns = Some(new_ns);
        if let TraceClock::Wall { offset_ns } = &mut self.clock {
            *offset_ns = new_ns;
        }
    }

    /// Counts lines that the caller has written.
    pub(super) fn add_printed(&mut self, lines: u64) {
        self.printed += lines;
    }

    /// Writes one event.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        names: ItemNames<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        self.append_line(event, format, names, &mut line)?;
        self.printed += 1;
        out.write_all(&line)?;
        self.line = line;
        Ok(())
    }

    /// Appends the line of an event.
    pub(super) fn append_line(
        &mut self,
        event: &Event<'_>,
        format: &Format,
        names: ItemNames<'_>,
        line: &mut Vec<u8>,
    ) -> io::Result<()> {
        let comm = names.comm;
        match self.format {
            TraceFormat::Json => {
                // An event of another system belongs to the VM of the vCPU thread that it concerns.
                let vm_tgid = event.subject.map_or(event.tgid, |it| it.tgid);
                let object = EventObject {
                    event,
                    format,
                    origin: &self.origin,
                    vm: self.vms.find(vm_tgid, names.vm_name),
                    vcpu: names.vcpu,
                    comm,
                    name: &self.name,
                };
                write_json(&JsonLine::new(object), &mut *line)?;
            }
            TraceFormat::Kernel => {
                self.append_prefix(event, &format.name, comm, line)?;
                let start = line.len();
                format.print(event.raw, line);
                escape_end(line, start);
            }
            TraceFormat::Fields => {
                self.append_prefix(event, &format.name, comm, line)?;
                let start = line.len();
                format.print_fields(event.raw, line);
                escape_end(line, start);
            }
        }
        line.push(b'\n');
        Ok(())
    }

    /// Appends the part of a line before the fields, such as
    /// `           CPU 0/KVM-5664    [000] 11906.220178: kvm_entry: `.
    pub(super) fn append_prefix(
        &mut self,
        event: &Event<'_>,
        name: &str,
        comm: &str,
        line: &mut Vec<u8>,
    ) -> io::Result<()> {
        columns::text(line, comm, 16);
        line.push(b'-');
        let tid_start = line.len();
        columns::number(line, u64::from(event.tid), 0, b' ');
        line.resize(line.len().max(tid_start + 7), b' ');
        line.extend_from_slice(b" [");
        columns::number(line, u64::from(event.cpu), 3, b'0');
        line.extend_from_slice(b"] ");
        let time_ns = event.time_ns;
        match self.clock {
            TraceClock::Mono => columns::seconds(line, time_ns),
            TraceClock::Delta => {
                let before = self.last_ns.replace(time_ns).unwrap_or(time_ns);
                columns::seconds(line, time_ns.saturating_sub(before));
            }
            TraceClock::Wall { offset_ns } => {
                let since_epoch = Duration::from_nanos(time_ns.saturating_add(offset_ns));
                let time = UNIX_EPOCH + since_epoch;
                write!(line, "{}", humantime::format_rfc3339_micros(time))?;
            }
        }
        let (on, off) = if self.color {
            (color_of(name), "\x1b[0m")
        } else {
            ("", "")
        };
        line.extend_from_slice(b": ");
        line.extend_from_slice(on.as_bytes());
        OutsideText::new(name).append_to(line);
        line.extend_from_slice(off.as_bytes());
        line.extend_from_slice(b": ");
        Ok(())
    }

    /// Writes a line for each event with losses since the last call. `time_ns` is the current time.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_ring_losses(
        &mut self,
        events: &[EventCount],
        time_ns: u64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        for (event, reported) in events.iter().zip(&mut self.reported_lost) {
            let lost = event.lost.saturating_sub(*reported);
            if lost == 0 {
                continue;
            }
            *reported = event.lost;
            let why = "the ring buffer of the CPU was full (--ring sets its size)";
            write_loss_line(self.format, lost, Some(&event.event), time_ns, why, out)?;
        }
        Ok(())
    }

    /// Writes a line for events that were lost during recording, before `time_ns`. `event` is `None`
    /// if the recording does not say which event it was.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_recorded_loss(
        &mut self,
        lost: u64,
        event: Option<&EventName>,
        time_ns: u64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let why = "the buffer was full during recording";
        write_loss_line(self.format, lost, event, time_ns, why, out)
    }
}

/// A loss as JSON.
#[derive(Serialize)]
struct LostEvents {
    lost: u64,
    event: Option<String>,
    /// The time before which the events were lost.
    time_ns: u64,
}

fn write_loss_line(
    format: TraceFormat,
    lost: u64,
    event: Option<&EventName>,
    time_ns: u64,
    why: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    if format == TraceFormat::Json {
        let event = event.map(ToString::to_string);
        let object = LostEvents {
            lost,
            event,
            time_ns,
        };
        write_json(&JsonLine::new(object), &mut *out)?;
        return out.write_all(b"\n");
    }
    let event = event.map_or_else(|| "events".to_owned(), ToString::to_string);
    let (seconds, micros) = (time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000);
    writeln!(
        out,
        "# lost {lost} {} before {seconds}.{micros:06}: {why}",
        OutsideText::new(&event)
    )
}

/// Returns the escape sequence for the color of an event: exits, entries, exits to user space, memory,
/// interrupts, or others.
fn color_of(event: &str) -> &'static str {
    match event {
        "exit" | "kvm_exit" | "kvm_nested_vmexit" => "\x1b[33m",
        "kvm_entry" => "\x1b[32m",
        "kvm_userspace_exit" => "\x1b[35m",
        _ if event.contains("fault") || event.contains("mmu") || event.contains("mmio") => {
            "\x1b[34m"
        }
        _ if event.contains("irq") || event.contains("apic") || event.contains("eoi") => "\x1b[36m",
        _ => "\x1b[1m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{next_process_id, pid_of},
        view::OutputHeader,
    };

    const EXIT: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");

    fn lines(format: TraceFormat, clock: TraceClock, reason: u32) -> String {
        let formats = vec![Format::parse("kvm", EXIT).unwrap()];
        let mut raw = vec![0; formats[0].fixed_size()];
        for (name, value) in [("isa", 2), ("exit_reason", reason), ("vcpu_id", 3)] {
            let at = formats[0].field(name).unwrap().offset;
            raw[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let event = Event {
            time_ns: 12_345_678_901,
            cpu: 1,
            tgid: next_process_id(7),
            tid: 8,
            subject: None,
            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
            slot: 0,
            sample_weight: 0,
            raw: &raw,
        };
        let origin = ReportOrigin {
            header: OutputHeader {
                host: Some("host1".into()),
                ..OutputHeader::default()
            },
            wall_offset_ns: Some(1_795_612_627_613_208_100),
            ..ReportOrigin::new(SelectedBy::default())
        };
        let mut lines = TraceLines::new(1, format, clock, false).with_origin(origin);
        let names = ItemNames {
            comm: "CPU 3/KVM",
            vcpu: Some(3),
            vm_name: &|tgid| (pid_of(tgid) == 7).then(|| "web-1".into()),
        };
        let mut out = Vec::new();
        lines
            .write_event(&event, &formats, names, &mut out)
            .unwrap();
        assert_eq!(lines.printed(), 1);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_have_the_layout_of_trace_pipe() {
        assert_eq!(
            lines(TraceFormat::Kernel, TraceClock::Mono, 0x400),
            "       CPU 3/KVM-8       [001]     12.345678: kvm_exit: vcpu 3 reason npf rip 0x0 info1 \
             0x0000000000000000 info2 0x0000000000000000 intr_info 0x00000000 error_code 0x00000000\n"
        );
    }

    #[test]
    fn lines_show_the_requested_clock() {
        let line = lines(
            TraceFormat::Kernel,
            TraceClock::Wall {
                offset_ns: 1_000_000_000_000_000_000,
            },
            0,
        );
        assert!(
            line.contains("] 2001-09-09T01:46:52.345678Z: kvm_exit"),
            "{line}"
        );
        let mut day_lines = TraceLines::new(0, TraceFormat::Kernel, TraceClock::Mono, false);
        day_lines.set_wall_offset(5);
        assert_eq!(day_lines.clock, TraceClock::Mono);
        day_lines.clock = TraceClock::Wall { offset_ns: 1 };
        day_lines.set_wall_offset(5);
        assert_eq!(day_lines.clock, TraceClock::Wall { offset_ns: 5 });
        let line = lines(TraceFormat::Kernel, TraceClock::Delta, 0);
        assert!(line.contains("]      0.000000: kvm_exit"), "{line}");
    }

    #[test]
    fn fields_have_values_and_names_of_values() {
        let line = lines(TraceFormat::Fields, TraceClock::Mono, 0x400);
        assert!(line.contains(" exit_reason=1024(npf) "), "{line}");
        let json: serde_json::Value =
            serde_json::from_str(&lines(TraceFormat::Json, TraceClock::Mono, 0x400)).unwrap();
        assert_eq!(json["fields"]["exit_reason"]["value"], 0x400);
        assert_eq!(json["fields"]["exit_reason"]["name"], "npf");
        assert_eq!(json["fields"]["vcpu_id"], 3);
        assert_eq!(json["time_ns"], 12_345_678_901u64);
        assert_eq!(json["time"], "2026-11-25T13:17:19.958887001Z");
        assert_eq!([&json["host"], &json["vm"]], ["host1", "web-1"]);
        assert_eq!([&json["pid"], &json["vcpu"]], [7, 3]);
        assert!(json["vm_uuid"].is_null() && json["boot_id"].is_null());
    }

    #[test]
    fn a_value_without_a_name_is_an_object_with_a_null_name() {
        let json: serde_json::Value =
            serde_json::from_str(&lines(TraceFormat::Json, TraceClock::Mono, 0x7777)).unwrap();
        assert_eq!(json["fields"]["exit_reason"]["value"], 0x7777);
        assert!(json["fields"]["exit_reason"]["name"].is_null());
    }
}
