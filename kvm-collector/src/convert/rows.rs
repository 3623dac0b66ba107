//! Exits or events as rows of a table: what the columns are, and what is in them.

use std::{cell::RefCell, collections::HashMap, io};

use kvm_ebpf_common::{Key, VCPU_UNKNOWN};

use super::{End, Gap, Sink};
use crate::{
    model::{
        Event, ExitEnd, Segment, VcpuState,
        capacity::{MOST_KEY_NAMES, MOST_NAMED},
    },
    source::Names,
    tracefs::{Field, Format, ReasonNames},
    view::write_fields,
};

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// A row for each exit.
    Exits,
    /// A row for each event.
    Events,
}

/// What is in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32 bits without a sign.
    Small,
    /// 64 bits without a sign.
    Large,
    /// 64 bits with a sign.
    Signed,
    /// Nanoseconds since 1970, UTC.
    WallTime,
    /// Yes or no.
    Flag,
    /// Text.
    Text,
    /// A JSON object.
    Json,
}

/// A column: its name, what is in it, and whether a row can have nothing there.
pub type Column = (&'static str, Kind, bool);

const COMMON: [Column; 8] = [
    ("time_ns", Kind::Signed, false),
    ("time", Kind::WallTime, true),
    ("cpu", Kind::Small, false),
    ("pid", Kind::Small, false),
    ("tid", Kind::Small, false),
    ("comm", Kind::Text, false),
    ("vm", Kind::Text, false),
    ("vcpu", Kind::Small, true),
];

const OF_EXITS: [Column; 11] = [
    ("reason", Kind::Text, false),
    ("reason_code", Kind::Large, false),
    ("isa", Kind::Small, false),
    ("duration_ns", Kind::Signed, true),
    ("kernel_ns", Kind::Signed, true),
    ("vmm_ns", Kind::Signed, true),
    ("halted_ns", Kind::Signed, true),
    ("preempted_ns", Kind::Signed, true),
    ("guest_rip", Kind::Large, false),
    ("open", Kind::Flag, false),
    ("untimed", Kind::Flag, false),
];

const OF_EVENTS: [Column; 4] = [
    ("system", Kind::Text, false),
    ("event", Kind::Text, false),
    ("text", Kind::Text, false),
    ("fields", Kind::Json, false),
];

impl Columns {
    /// The columns, in order.
    pub fn all(self) -> impl Iterator<Item = Column> {
        let own = match self {
            Self::Exits => &OF_EXITS[..],
            Self::Events => &OF_EVENTS[..],
        };
        COMMON.into_iter().chain(own.iter().copied())
    }

    /// The column that says what a row is about.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Exits => "reason",
            Self::Events => "event",
        }
    }
}

/// What a row has in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Nothing.
    None,
    /// A number; times are below 2^63 ns, which is 292 years.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(&'a str),
}

/// What rows are written to.
pub trait Table {
    /// Writes a row, with a cell for each column.
    ///
    /// # Errors
    /// When writing fails.
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()>;

    /// Events are missing.
    ///
    /// # Errors
    /// When writing fails.
    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()>;

    /// That was all.
    ///
    /// # Errors
    /// When writing fails.
    fn finish(&mut self, end: &End<'_>) -> io::Result<()>;
}

/// Makes rows of exits or events.
#[derive(Debug)]
pub struct Rows<T> {
    exit: Option<Format>,
    /// Is it known when threads could not run?
    preempt_watched: bool,
    /// From the recording's clock to the wall's.
    offset_ns: Option<u64>,
    vms: HashMap<u32, Box<str>>,
    reasons: HashMap<Key, Box<str>>,
    /// Per slot, where its event says the vCPU.
    vcpus: Option<Vec<Option<Field>>>,
    name: RefCell<Vec<u8>>,
    text: Vec<u8>,
    fields: Vec<u8>,
    table: T,
}

impl<T: Table> Rows<T> {
    /// Rows of what comes; `exit` names reasons.
    pub fn new(
        exit: Option<Format>,
        preempt_watched: bool,
        offset_ns: Option<u64>,
        table: T,
    ) -> Self {
        Self {
            exit,
            preempt_watched,
            offset_ns,
            vms: HashMap::new(),
            reasons: HashMap::new(),
            vcpus: None,
            name: RefCell::default(),
            text: Vec::new(),
            fields: Vec::new(),
            table,
        }
    }
}

/// A VM's name, asked for once it is known.
fn vm<'a>(vms: &'a mut HashMap<u32, Box<str>>, tgid: u32, names: &Names) -> &'a str {
    const UNKNOWN: &str = "?";
    if vms.len() >= MOST_NAMED {
        vms.clear();
    }
    let name = vms.entry(tgid).or_insert_with(|| UNKNOWN.into());
    if &**name == UNKNOWN {
        *name = names.vm(tgid).into();
    }
    name
}

impl<T: Table> Sink for Rows<T> {
    fn event(&mut self, event: &Event<'_>, formats: &[Format], names: &Names) -> io::Result<()> {
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        let vcpus = self.vcpus.get_or_insert_with(|| {
            let vcpu = |it: &Format| it.field("vcpu_id").cloned();
            formats.iter().map(vcpu).collect()
        });
        let vcpu = vcpus.get(event.slot).and_then(Option::as_ref);
        self.text.clear();
        format.print(event.raw, &mut self.text);
        self.fields.clear();
        write_fields(event.raw, format, &self.name, &mut self.fields)?;
        let text = String::from_utf8_lossy(&self.text);
        let fields = String::from_utf8_lossy(&self.fields);
        self.table.row(&[
            Cell::Number(event.time_ns),
            wall(self.offset_ns, event.time_ns),
            Cell::Number(event.cpu.into()),
            Cell::Number(event.tgid.into()),
            Cell::Number(event.tid.into()),
            Cell::Text(names.comm(event.thread())),
            Cell::Text(vm(&mut self.vms, event.tgid, names)),
            vcpu.and_then(|it| it.read_u64(event.raw))
                .map_or(Cell::None, Cell::Number),
            Cell::Text(&format.system),
            Cell::Text(&format.name),
            Cell::Text(text.trim_end()),
            Cell::Text(&fields),
        ])
    }

    fn exit(&mut self, exit: &Segment, _parts: &[Segment], names: &Names) -> io::Result<()> {
        let VcpuState::Exit(what) = &exit.state else {
            return Ok(());
        };
        let code = u32::try_from(what.key.code).unwrap_or(u32::MAX);
        let format = self.exit.as_ref();
        if self.reasons.len() >= MOST_KEY_NAMES {
            self.reasons.clear();
        }
        let reason = self.reasons.entry(what.key).or_insert_with(|| {
            ReasonNames::of(format)
                .name(what.key.class, code)
                .into_boxed_str()
        });
        let is_over = what.end == ExitEnd::Entry;
        let number = |known: bool, ns: u64| match known {
            true => Cell::Number(ns),
            false => Cell::None,
        };
        let time = |ns: u64| number(is_over, ns);
        let duration_ns = exit.to_ns - exit.from_ns;
        let parts = &what.parts;
        let elsewhere_ns = parts.vmm_ns + parts.halted_ns + parts.preempted_ns;
        let vcpu_id = &exit.vcpu_id;
        self.table.row(&[
            Cell::Number(exit.from_ns),
            wall(self.offset_ns, exit.from_ns),
            Cell::Number(exit.cpu.into()),
            Cell::Number(vcpu_id.tgid.into()),
            Cell::Number(vcpu_id.tid.into()),
            Cell::Text(names.comm(vcpu_id.thread())),
            Cell::Text(vm(&mut self.vms, vcpu_id.tgid, names)),
            match vcpu_id.vcpu {
                VCPU_UNKNOWN => Cell::None,
                vcpu => Cell::Number(vcpu.into()),
            },
            Cell::Text(reason),
            Cell::Number(what.key.code),
            Cell::Number(what.key.class.into()),
            time(duration_ns),
            time(duration_ns.saturating_sub(elsewhere_ns)),
            time(parts.vmm_ns),
            time(parts.halted_ns),
            number(is_over && self.preempt_watched, parts.preempted_ns),
            Cell::Number(what.guest_rip),
            Cell::Flag(what.end == ExitEnd::Open),
            Cell::Flag(what.end == ExitEnd::Unseen),
        ])
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.table.gap(gap)
    }

    fn finish(&mut self, end: &End<'_>) -> io::Result<()> {
        self.table.finish(end)
    }
}

fn wall<'a>(offset_ns: Option<u64>, time_ns: u64) -> Cell<'a> {
    offset_ns.map_or(Cell::None, |it| Cell::Number(time_ns.wrapping_add(it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_columns_have_one_name() {
        for columns in [Columns::Exits, Columns::Events] {
            let mut names: Vec<_> = columns.all().map(|it| it.0).collect();
            assert!(names.contains(&columns.what()));
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
