//! Turns exits or events into rows of a table.

use std::{cell::RefCell, io};

use super::{
    sink::{Gap, RecordingEnd, Sink},
    table::{Cell, TableWriter},
};
use crate::{
    model::{Event, Segment, StreamItem, VcpuState, pid_of},
    source::{PlaybackContext, RecordedNames},
    tracefs::Format,
    view::{ExitRecords, Hex, VmCache, write_fields_json},
};

/// Writes a row for each exit or event that it receives.
#[derive(Debug)]
pub struct RowSink<T> {
    records: ExitRecords,
    vms: VmCache,
    name_buffer: RefCell<Vec<u8>>,
    text_buffer: Vec<u8>,
    json_buffer: Vec<u8>,
    table: T,
}

impl<T: TableWriter> RowSink<T> {
    /// Writes rows to `table`. `records` makes the contents of the rows of exits.
    pub fn new(records: ExitRecords, table: T) -> Self {
        Self {
            records,
            vms: VmCache::default(),
            name_buffer: RefCell::default(),
            text_buffer: Vec::new(),
            json_buffer: Vec::new(),
            table,
        }
    }
}

impl<T: TableWriter> Sink for RowSink<T> {
    fn item(
        &mut self,
        item: &StreamItem<'_>,
        formats: &[Format],
        context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        match item {
            StreamItem::Event(event) => self.event(event, formats, context),
            StreamItem::ThreadEnd { tid } => {
                self.vms.remove_thread(*tid);
                Ok(())
            }
            item => self.write_loss_as_gap(item, formats),
        }
    }

    fn event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        self.text_buffer.clear();
        format.print(event.raw, &mut self.text_buffer);
        self.json_buffer.clear();
        write_fields_json(event.raw, format, &self.name_buffer, &mut self.json_buffer)?;
        let text = String::from_utf8_lossy(&self.text_buffer);
        let fields = String::from_utf8_lossy(&self.json_buffer);
        // An event of another system belongs to the VM of the vCPU thread that it concerns.
        let vm_tgid = event.subject.map_or(event.tgid, |it| it.tgid);
        let names = context.names;
        let vm = self.vms.find(vm_tgid, |tgid| names.known_vm_name(tgid));
        let origin = self.records.origin();
        self.table.row(&[
            Cell::Number(event.time_ns),
            origin
                .utc_time(event.time_ns)
                .map_or(Cell::Null, Cell::Time),
            text_or_null(origin.header.host.as_deref()),
            text_or_null(origin.header.boot_id.as_deref()),
            Cell::Number(event.cpu.into()),
            Cell::Number(pid_of(event.tgid).into()),
            Cell::Number(event.tid.into()),
            Cell::Text(names.comm(event.thread())),
            Cell::Text(&vm.name.name),
            text_or_null(vm.uuid_text.as_deref()),
            number_or_null(context.vcpu.map(u64::from)),
            Cell::Text(&format.system),
            Cell::Text(format.full_name()),
            Cell::Text(text.trim_end()),
            Cell::Json(&fields),
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
        let comm = names.comm(exit.vcpu_id.thread());
        let tgid = exit.vcpu_id.tgid;
        let vm = self.vms.find(tgid, |tgid| names.known_vm_name(tgid));
        let it = self.records.record(exit, details, comm, &vm.name);
        self.table.row(&[
            Cell::Number(it.time_ns),
            it.time.map_or(Cell::Null, Cell::Time),
            text_or_null(it.host),
            text_or_null(it.boot_id),
            Cell::Number(it.cpu.into()),
            Cell::Number(it.pid.into()),
            Cell::Number(it.tid.into()),
            Cell::Text(it.comm),
            Cell::Text(it.vm),
            text_or_null(vm.uuid_text.as_deref()),
            number_or_null(it.vcpu.map(u64::from)),
            Cell::Text(it.reason),
            Cell::Number(it.reason_code),
            Cell::Text(it.isa),
            number_or_null(it.duration_ns),
            number_or_null(it.kernel_ns),
            number_or_null(it.vmm_ns),
            number_or_null(it.halted_ns),
            number_or_null(it.preempted_ns),
            number_or_null(it.idle_ns),
            text_or_null(it.cause_kind),
            it.cause_code.map_or(Cell::Null, |it| Cell::Hex(Hex(it))),
            text_or_null(it.cause),
            text_or_null(it.cause_name),
            Cell::Hex(it.guest_rip),
            Cell::Bool(it.is_open),
            Cell::Bool(it.is_untimed),
        ])
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.table.gap(gap)
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        self.table.finish(end)
    }
}

fn text_or_null(text: Option<&str>) -> Cell<'_> {
    text.map_or(Cell::Null, Cell::Text)
}

fn number_or_null<'a>(number: Option<u64>) -> Cell<'a> {
    number.map_or(Cell::Null, Cell::Number)
}
