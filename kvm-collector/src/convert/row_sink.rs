//! Turns exits or events into rows of a table.

use std::{cell::RefCell, collections::HashMap, io};

use kvm_ebpf_common::{Key, VCPU_UNKNOWN};

use super::{
    sink::{Gap, RecordingEnd, Sink},
    table::{Cell, TableWriter},
};
use crate::{
    model::{
        Event, ExitEnd, Segment, VcpuState,
        capacity::{MAX_KEY_NAMES, MAX_KNOWN_TASKS},
    },
    source::RecordedNames,
    tracefs::{Field, Format, ReasonNames},
    view::write_fields_json,
};

/// Writes a row for each exit or event that it receives.
#[derive(Debug)]
pub struct RowSink<T> {
    exit_format: Option<Format>,
    /// Whether preempted time is known.
    has_preemption: bool,
    /// `CLOCK_REALTIME` minus the clock of the recording, in ns.
    wall_clock_offset_ns: Option<u64>,
    vm_names: HashMap<u32, Box<str>>,
    reason_names: HashMap<Key, Box<str>>,
    /// The vCPU field of each slot's event.
    vcpu_fields: Option<Vec<Option<Field>>>,
    name_buffer: RefCell<Vec<u8>>,
    text_buffer: Vec<u8>,
    json_buffer: Vec<u8>,
    table: T,
}

impl<T: TableWriter> RowSink<T> {
    /// Writes rows to `table`. The format of `kvm_exit` provides names of exit reasons.
    pub fn new(
        exit_format: Option<Format>,
        has_preemption: bool,
        wall_clock_offset_ns: Option<u64>,
        table: T,
    ) -> Self {
        Self {
            exit_format,
            has_preemption,
            wall_clock_offset_ns,
            vm_names: HashMap::new(),
            reason_names: HashMap::new(),
            vcpu_fields: None,
            name_buffer: RefCell::default(),
            text_buffer: Vec::new(),
            json_buffer: Vec::new(),
            table,
        }
    }
}

/// Returns the name of a VM, from a cache. Does not cache an unknown name, which may become known later.
fn vm_name<'a>(cache: &'a mut HashMap<u32, Box<str>>, tgid: u32, names: &RecordedNames) -> &'a str {
    const UNKNOWN: &str = "?";
    if cache.len() >= MAX_KNOWN_TASKS {
        cache.clear();
    }
    let name = cache.entry(tgid).or_insert_with(|| UNKNOWN.into());
    if &**name == UNKNOWN {
        *name = names.vm_name(tgid).into();
    }
    name
}

impl<T: TableWriter> Sink for RowSink<T> {
    fn event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        names: &RecordedNames,
    ) -> io::Result<()> {
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        let vcpu_fields = self.vcpu_fields.get_or_insert_with(|| {
            let vcpu_field = |it: &Format| it.field("vcpu_id").cloned();
            formats.iter().map(vcpu_field).collect()
        });
        let vcpu_field = vcpu_fields.get(event.slot).and_then(Option::as_ref);
        self.text_buffer.clear();
        format.print(event.raw, &mut self.text_buffer);
        self.json_buffer.clear();
        write_fields_json(event.raw, format, &self.name_buffer, &mut self.json_buffer)?;
        let text = String::from_utf8_lossy(&self.text_buffer);
        let fields = String::from_utf8_lossy(&self.json_buffer);
        self.table.row(&[
            Cell::Number(event.time_ns),
            wall_clock_time(self.wall_clock_offset_ns, event.time_ns),
            Cell::Number(event.cpu.into()),
            Cell::Number(event.tgid.into()),
            Cell::Number(event.tid.into()),
            Cell::Text(names.comm(event.thread())),
            Cell::Text(vm_name(&mut self.vm_names, event.tgid, names)),
            vcpu_field
                .and_then(|it| it.read_u64(event.raw))
                .map_or(Cell::Null, Cell::Number),
            Cell::Text(&format.system),
            Cell::Text(&format.name),
            Cell::Text(text.trim_end()),
            Cell::Text(&fields),
        ])
    }

    fn exit(
        &mut self,
        exit: &Segment,
        _parts: &[Segment],
        names: &RecordedNames,
    ) -> io::Result<()> {
        let VcpuState::Exit(details) = &exit.state else {
            return Ok(());
        };
        let code = u32::try_from(details.key.code).unwrap_or(u32::MAX);
        let format = self.exit_format.as_ref();
        if self.reason_names.len() >= MAX_KEY_NAMES {
            self.reason_names.clear();
        }
        let reason = self.reason_names.entry(details.key).or_insert_with(|| {
            ReasonNames::new(format)
                .name(details.key.subcode, code)
                .into_boxed_str()
        });
        let is_complete = details.end == ExitEnd::Entry;
        let number = |known: bool, ns: u64| match known {
            true => Cell::Number(ns),
            false => Cell::Null,
        };
        let time = |ns: u64| number(is_complete, ns);
        let duration_ns = exit.to_ns - exit.from_ns;
        let parts = &details.parts;
        let non_kernel_ns = parts.vmm_ns + parts.halted_ns + parts.preempted_ns;
        let vcpu_id = &exit.vcpu_id;
        self.table.row(&[
            Cell::Number(exit.from_ns),
            wall_clock_time(self.wall_clock_offset_ns, exit.from_ns),
            Cell::Number(exit.cpu.into()),
            Cell::Number(vcpu_id.tgid.into()),
            Cell::Number(vcpu_id.tid.into()),
            Cell::Text(names.comm(vcpu_id.thread())),
            Cell::Text(vm_name(&mut self.vm_names, vcpu_id.tgid, names)),
            match vcpu_id.vcpu {
                VCPU_UNKNOWN => Cell::Null,
                vcpu => Cell::Number(vcpu.into()),
            },
            Cell::Text(reason),
            Cell::Number(details.key.code),
            Cell::Number(details.key.subcode.into()),
            time(duration_ns),
            time(duration_ns.saturating_sub(non_kernel_ns)),
            time(parts.vmm_ns),
            time(parts.halted_ns),
            number(is_complete && self.has_preemption, parts.preempted_ns),
            Cell::Number(details.guest_rip),
            Cell::Bool(details.end == ExitEnd::InProgress),
            Cell::Bool(details.end == ExitEnd::UnknownEnd),
        ])
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.table.gap(gap)
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        self.table.finish(end)
    }
}

fn wall_clock_time<'a>(offset_ns: Option<u64>, time_ns: u64) -> Cell<'a> {
    offset_ns.map_or(Cell::Null, |it| Cell::Number(time_ns.wrapping_add(it)))
}
