//! The names in outputs for programs, what they mean, and how their values look.

use libtest_mimic::Failed;
use serde_json::Value;

use self::Kind::{
    Address, Clock, Count, EventName, Flag, Group, HexId, Id, Isa, Length, Ratio, Text, Utc, Uuid,
};

/// The times of the recordings, in ns.
const CLOCK_NS: std::ops::RangeInclusive<u64> = 5_000_000_000..=11_000_000_000;

/// The type and the unit of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// `system:name`.
    EventName,
    Uuid,
    Isa,
    /// Text that starts with `0x`.
    Address,
    /// A number that identifies something. In CSV, text that starts with `0x`.
    HexId,
    /// A date and time in UTC.
    Utc,
    /// A point in time, in ns of the clock of the events.
    Clock,
    /// A length of time in ns.
    Length,
    Count,
    /// A number that identifies something.
    Id,
    /// A number with a fraction.
    Ratio,
    Flag,
    /// An object or a list.
    Group,
}

/// A name with its meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    kind: Kind,
    pub(super) meaning: &'static str,
}

const fn entry(name: &'static str, kind: Kind, meaning: &'static str) -> Entry {
    Entry {
        name,
        kind,
        meaning,
    }
}

/// All names, except those of `guest` and `doctor`.
pub(super) const NAMES: [Entry; 121] = [
    entry("activity", Text, "what a vCPU without exits does"),
    entry("advice", Group, "tuning advice"),
    entry("after_ns", Length, "from kvm_exit to an event in the exit"),
    entry("at_least", Count, "lower bound of the exits of a cause"),
    entry("at_most", Count, "upper bound of the exits of a cause"),
    entry("baseline", Group, "report that is compared with"),
    entry("baseline_count", Count, "exits in the baseline"),
    entry("baseline_elapsed_ns", Length, "length of the baseline"),
    entry("baseline_incomplete", Flag, "losses in the baseline"),
    entry("baseline_left_out", Count, "hidden rows of the baseline"),
    entry("boot_id", Text, "id of the host's boot"),
    entry("by", Group, "grouping of rows"),
    entry("cause", Text, "label of a cause"),
    entry("cause_code", HexId, "number of a cause"),
    entry("cause_kind", Text, "kind of a cause"),
    entry("cause_name", Text, "known name of a cause's number"),
    entry("causes", Group, "causes of a row"),
    entry("class", Id, "direction or error of a counted event"),
    entry("code", Id, "number of a counted event"),
    entry("comm", Text, "name of a thread"),
    entry("command", Text, "command that was measured"),
    entry("cost_ns_per_s", Length, "rate of the non-idle time"),
    entry("cost_ratio", Ratio, "share of the non-idle time"),
    entry("count", Count, "number of what a row is about"),
    entry("count_ratio", Ratio, "share of the count"),
    entry("cpu", Id, "CPU"),
    entry("damaged", Count, "records that cannot be decoded"),
    entry("defect", Text, "why a recording is incomplete"),
    entry("duration_ns", Length, "duration of one exit"),
    entry("elapsed_ns", Length, "length of a report"),
    entry("end", Utc, "end of a report"),
    entry("event", EventName, "full name of an event"),
    entry("events", Group, "events"),
    entry("evidence", Group, "what advice is based on"),
    entry("exits_per_vcpu_s", Ratio, "exits per second of a vCPU"),
    entry("field_names", Group, "names of an event's fields"),
    entry("fields", Group, "values of an event's fields"),
    entry("file", Text, "path of a baseline"),
    entry("from_ns", Length, "start of a bucket"),
    entry("guest_ns", Length, "time in the guest"),
    entry("guest_rip", Address, "instruction pointer of the guest"),
    entry("halted_ns", Length, "halted part of exits"),
    entry("histogram", Group, "buckets of durations"),
    entry("host", Text, "name of the host"),
    entry("idle_ns", Length, "idle part of exits"),
    entry("input", Text, "path of the only recording"),
    entry("inputs", Group, "several recordings"),
    entry("inside", Group, "events during an exit"),
    entry("is_open", Flag, "whether an exit is in progress"),
    entry("is_untimed", Flag, "whether an exit has no time"),
    entry("isa", Isa, "who defines an exit reason"),
    entry("kernel", Text, "release of the kernel"),
    entry("kernel_ns", Length, "kernel part of exits"),
    entry("key", Text, "label of a counted event"),
    entry("key_name", Text, "known name of a counted event's number"),
    entry("kind", Text, "what is counted"),
    entry("kinds", Group, "kinds of events"),
    entry("late", Count, "events that arrived too late"),
    entry("left_out", Count, "events without text in an exit"),
    entry("loss", Group, "data that is missing"),
    entry("lost", Count, "lost events"),
    entry("map_full", Count, "exits without a row"),
    entry("max_ns", Length, "longest duration"),
    entry("mean_ns", Length, "mean duration"),
    entry("min_ns", Length, "shortest duration"),
    entry("missed", Count, "events without a program"),
    entry("moved", Count, "exits that ended in another thread"),
    entry("ns", Length, "value of the percentile of an object"),
    entry("open", Count, "exits in progress at the end"),
    entry("open_ns", Length, "time so far of an exit in progress"),
    entry("other_causes_at_most", Count, "exits of unlisted causes"),
    entry("p50_ns", Length, "median"),
    entry("p99_ns", Length, "percentile in the name"),
    entry("path", Text, "path of one of several recordings"),
    entry("percent", Ratio, "which percentile"),
    entry("percentiles", Group, "requested percentiles"),
    entry("period", Text, "interval or total"),
    entry("pid", Id, "process"),
    entry("preempt_watched", Flag, "whether preemption was measured"),
    entry("preempted_ns", Length, "preempted part of exits"),
    entry("rate_per_s", Ratio, "rate of the count"),
    entry("reason", Text, "name of an exit reason"),
    entry("reason_code", Id, "number of an exit reason"),
    entry("reasons", Group, "exit reasons"),
    entry("recording", Group, "recording that is listed"),
    entry(
        "recording_selection",
        Group,
        "options that limited a recording",
    ),
    entry("row_count", Count, "rows, including hidden ones"),
    entry("rows", Group, "rows of a report"),
    entry("sampled", Count, "events with estimated numbers"),
    entry("schema_version", Id, "version of the schema"),
    entry("selection", Group, "options that select"),
    entry("start", Utc, "start of a report"),
    entry(
        "start_ns",
        Length,
        "from the measurement's to a report's start",
    ),
    entry("state", Text, "which reports have a row"),
    entry("system", Text, "system of an event"),
    entry("text", Text, "text for people"),
    entry("tid", Id, "thread"),
    entry("time", Utc, "point in time"),
    entry("time_ns", Clock, "point in time of the clock"),
    entry("time_ratio", Ratio, "share of the total time"),
    entry("to_ns", Length, "end of a bucket"),
    entry("tool_version", Text, "version of kvm-collector"),
    entry("topic", Text, "topic of advice"),
    entry("total_ns", Length, "sum of the durations of exits"),
    entry("total_ns_per_s", Length, "rate of the total time"),
    entry("unattributed", Count, "events of unknown VMs"),
    entry("unmatched", Count, "exits without an entry"),
    entry("unmeasured", Group, "parts of the time that are unknown"),
    entry("unreadable", Count, "processes that cannot be read"),
    entry("untimed", Count, "exits without a time"),
    entry("vcpu", Id, "index of a vCPU"),
    entry("vcpu_time_ratio", Ratio, "share of the vCPUs' time"),
    entry("vcpus", Group, "vCPUs"),
    entry(
        "vcpus_from_thread_names",
        Flag,
        "whether names of threads tell the vCPUs",
    ),
    entry("view", Text, "kind of a report"),
    entry("vm", Text, "name of a VM"),
    entry("vm_uuid", Uuid, "UUID of a VM"),
    entry("vmm", Text, "program of a VMM"),
    entry("vmm_ns", Length, "VMM part of exits"),
    entry("vms", Group, "VMs"),
    entry("vms_without_exits", Group, "VMs without exits"),
];

/// Returns the entry of a name.
///
/// # Errors
/// When the table does not have it.
pub(super) fn find(name: &str) -> Result<&'static Entry, Failed> {
    let entry = NAMES.iter().find(|it| it.name == name);
    entry.ok_or_else(|| format!("`{name}` is not in the table of names: use the name that this has in other outputs, or add it").into())
}

impl Entry {
    pub(super) fn is_group(&self) -> bool {
        self.kind == Group
    }

    /// Returns the value of a cell of CSV.
    ///
    /// # Errors
    /// When it has another type.
    pub(super) fn value_of_cell(&self, cell: &str) -> Result<Value, Failed> {
        Ok(match self.kind {
            _ if cell.is_empty() => Value::Null,
            HexId => {
                let digits = cell.strip_prefix("0x").ok_or("no hexadecimal number")?;
                u64::from_str_radix(digits, 16)?.into()
            }
            _ if self.is_text() => cell.into(),
            _ => serde_json::from_str(cell)?,
        })
    }

    pub(super) fn is_text(&self) -> bool {
        self.has_json_type("string")
    }

    /// Returns whether values may have a type of JSON Schema.
    pub(super) fn has_json_type(&self, name: &str) -> bool {
        match self.kind {
            Text | EventName | Uuid | Isa | Address | Utc => matches!(name, "string" | "null"),
            Clock | Length | Count | Id | HexId => matches!(name, "integer" | "null"),
            Ratio => matches!(name, "number" | "integer" | "null"),
            Flag => name == "boolean",
            Group => matches!(name, "object" | "array"),
        }
    }

    /// Checks the type of a value.
    pub(super) fn check_type(&self, value: &Value) -> Result<(), Failed> {
        let name = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        match self.has_json_type(name) || value.is_null() {
            true => Ok(()),
            false => Err(format!("{}: {value} is no {:?}", self.name, self.kind).into()),
        }
    }

    /// Checks the type of a value, and whether it can have the meaning.
    pub(super) fn check(&self, value: &Value) -> Result<(), Failed> {
        self.check_type(value)?;
        let text = value.as_str();
        let is_valid = match self.kind {
            EventName => text.is_none_or(|it| it.matches(':').count() == 1),
            Uuid => text.is_none_or(|it| it.len() == 36),
            Isa => text.is_none_or(|it| matches!(it, "vmx" | "svm" | "arm64")),
            Address => text.is_none_or(|it| it.starts_with("0x")),
            Utc => text.is_none_or(|it| it.len() == 30 && it.ends_with('Z')),
            Clock => value.as_u64().is_none_or(|it| CLOCK_NS.contains(&it)),
            _ => true,
        };
        match is_valid {
            true => Ok(()),
            false => Err(format!("{}: {value} is no {:?}", self.name, self.kind).into()),
        }
    }
}
