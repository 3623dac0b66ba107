//! A `format` file of tracefs: what a record of one event holds, and how the kernel prints it.

use std::fmt::Write as _;

use super::field::Field;
use super::print_fmt::PrintFmt;

/// A `format` file longer than this is none (the longest of Linux 6.18 has 13 KiB).
const MAX_TEXT: usize = 256 << 10;
/// A trace event has a dozen fields.
const MAX_FIELDS: usize = 256;

/// What one trace event's records hold.
#[derive(Clone, Debug)]
pub struct Format {
    /// The subsystem, such as `kvm`.
    pub system: String,
    /// The event, such as `kvm_exit`.
    pub name: String,
    /// The number that `common_type` of its records has.
    pub id: u16,
    /// The fields at the start of every event's records.
    pub common: Vec<Field>,
    /// The event's own fields.
    pub fields: Vec<Field>,
    print: Result<PrintFmt, String>,
}

/// Why a text is no format file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct FormatError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: FormatProblem,
}

/// What is wrong with a format file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatProblem {
    /// The text is too long to be a format file.
    #[error("more than {MAX_TEXT} bytes")]
    TooLong,
    /// It has too many fields.
    #[error("more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// There is no `name:` line.
    #[error("no event name")]
    NoName,
    /// There is no `ID:` line with a number.
    #[error("no event ID")]
    NoId,
    /// A `field:` line cannot be understood.
    #[error("bad field: {0}")]
    Field(&'static str),
}

impl Format {
    /// Parses the text of a `format` file. A print format that cannot be compiled is no error: see [`Format::print_warning`].
    pub fn parse(system: &str, text: &str) -> Result<Format, FormatError> {
        let problem = |line: usize, problem| FormatError { line, problem };
        if text.len() > MAX_TEXT {
            return Err(problem(1, FormatProblem::TooLong));
        }
        let (head, print_fmt) = match text.find("print fmt:") {
            Some(at) => (&text[..at], Some(text[at..]["print fmt:".len()..].trim())),
            None => (text, None),
        };
        let (mut name, mut id, mut all) = (None, None, Vec::new());
        let mut lines = 0;
        for (at, line) in head.lines().enumerate() {
            lines = at + 1;
            let line = line.trim();
            if let Some(text) = line.strip_prefix("name:") {
                name = Some(text.trim().to_owned());
            } else if let Some(text) = line.strip_prefix("ID:") {
                id = text.trim().parse().ok();
            } else if line.starts_with("field:") {
                if all.len() == MAX_FIELDS {
                    return Err(problem(lines, FormatProblem::TooManyFields));
                }
                all.push(
                    Field::parse(line)
                        .map_err(|reason| problem(lines, FormatProblem::Field(reason)))?,
                );
            }
        }
        let name = name
            .filter(|name| !name.is_empty())
            .ok_or(problem(lines, FormatProblem::NoName))?;
        let id = id.ok_or(problem(lines, FormatProblem::NoId))?;
        let (common, fields): (Vec<Field>, Vec<Field>) = all
            .into_iter()
            .partition(|field| field.name.starts_with("common_"));
        let print = print_fmt
            .ok_or_else(|| "is missing".to_owned())
            .and_then(|text| PrintFmt::compile(text, &common, &fields));
        let print = print.map_err(|reason| warning(system, &name, &reason));
        Ok(Format {
            system: system.to_owned(),
            name,
            id,
            common,
            fields,
            print,
        })
    }

    /// The field of this name, the event's own or a common one.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .chain(&self.common)
            .find(|field| field.name == name)
    }

    /// Where the last field of the fixed part ends. No record is shorter.
    pub fn end(&self) -> usize {
        let ends = self
            .common
            .iter()
            .chain(&self.fields)
            .map(|field| field.offset + field.size);
        ends.max().unwrap_or(0)
    }

    /// How many bytes of a record to capture for its fixed part: the end of the last field, rounded up to 8 as the kernel
    /// aligns its struct.
    pub fn fixed_size(&self) -> usize {
        self.end().next_multiple_of(8)
    }

    /// Whether arrays may follow the fixed part.
    pub fn has_dynamic(&self) -> bool {
        self.fields.iter().any(Field::is_dynamic)
    }

    /// Appends the record's text as `trace_pipe` prints it after `event: `. A value that the record is too short for is
    /// printed as `<truncated>`, one that C does not define as `<undefined>`. Allocates only to grow `out`.
    ///
    /// Two things cannot be as the kernel prints them: `%p` shows the address itself (the kernel hashes it with a secret
    /// unless its option `hash-ptr` is off), and `%pS` shows an address in place of a symbol.
    pub fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        match &self.print {
            Ok(print) => print.print(record, out),
            Err(_) => self.print_fields(record, out),
        }
    }

    /// Why [`Format::print`] prints `name=value` for this event, if it does.
    pub fn print_warning(&self) -> Option<&str> {
        self.print.as_ref().err().map(String::as_str)
    }

    /// Does the kernel print names for values of this field?
    pub fn names_field(&self, field: &Field) -> bool {
        let print = self.print.as_ref();
        print.is_ok_and(|print| print.names_field(field.offset))
    }

    /// Appends the name that the kernel prints for a field's value in this record, and those of its flags: `npf`, or
    /// `INVALID_STATE FAILED_VMENTRY`. Nothing for a value without a name.
    pub fn field_names(&self, field: &Field, record: &[u8], out: &mut Vec<u8>) {
        if let Ok(print) = &self.print {
            print.field_names(field.offset, record, out);
        }
    }

    /// The name that the kernel prints for this value of a field, whatever the other fields are; `None` if there is none, or
    /// if it depends on them.
    #[must_use]
    pub fn value_name(&self, field: &str, value: u64) -> Option<String> {
        let place = self.field(field)?;
        let name = |record: &[u8]| {
            let mut name = Vec::new();
            self.field_names(place, record, &mut name);
            String::from_utf8(name).ok().filter(|it| !it.is_empty())
        };
        // If all others are 0, and if they are 1, the name is the same.
        let ones: Vec<_> = self.fields.iter().map(|it| (it.name.as_str(), 1)).collect();
        let mut ones = self.record_with(&ones);
        let zeros = self.record_with(&[(field, value)]);
        let bytes = place.offset..(place.offset + place.size).min(zeros.len());
        ones.get_mut(bytes.clone())?
            .copy_from_slice(zeros.get(bytes)?);
        name(&zeros).filter(|it| name(&ones).as_ref() == Some(it))
    }

    /// Appends `name=value` for each of the event's own fields: signed and small numbers in base 10, addresses and unsigned
    /// numbers of 8 bytes in base 16, text as it is, arrays as `{0x1,0x2}`; behind a value, in parentheses, its name.
    pub fn print_fields(&self, record: &[u8], out: &mut Vec<u8>) {
        for (at, field) in self.fields.iter().enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(field.name.as_bytes());
            out.push(b'=');
            field.print(record, out);
            let value_end = out.len();
            out.push(b'(');
            self.field_names(field, record, out);
            if out.len() == value_end + 1 {
                out.truncate(value_end);
            } else {
                out.push(b')');
            }
        }
    }

    /// The name that is printed right after the literal text `label` when the given fields have the given values and all
    /// others are 0: `symbol("reason ", &[("isa", 2), ("exit_reason", 0x400)])` of `kvm_exit` is `npf`. An empty `label` is
    /// the start of the text. `None` for a value that the kernel's table does not name, or if no text is printed there.
    pub fn symbol(&self, label: &str, fields: &[(&str, u64)]) -> Option<String> {
        self.print
            .as_ref()
            .ok()?
            .symbol(label, &self.record_with(fields))
    }

    /// All values and names of the table that [`Format::symbol`] would look a name up in, by value.
    pub fn symbols(&self, label: &str, fields: &[(&str, u64)]) -> Vec<(u64, String)> {
        self.print.as_ref().map_or_else(
            |_| Vec::new(),
            |print| print.symbols(label, &self.record_with(fields)),
        )
    }

    /// A record of zeros but for these fields.
    pub(super) fn record_with(&self, fields: &[(&str, u64)]) -> Vec<u8> {
        let mut record = vec![0; self.fixed_size()];
        for (name, value) in fields {
            if let Some(field) = self.field(name) {
                let place = record.iter_mut().skip(field.offset).take(field.size);
                place
                    .zip(native(*value, field.size))
                    .for_each(|(byte, value)| *byte = value);
            }
        }
        record
    }
}

/// The `size` low bytes of `value`, in the order this machine stores them.
fn native(value: u64, size: usize) -> impl Iterator<Item = u8> {
    let skipped = if cfg!(target_endian = "big") {
        8_usize.saturating_sub(size)
    } else {
        0
    };
    value.to_ne_bytes().into_iter().skip(skipped)
}

fn warning(system: &str, name: &str, reason: &str) -> String {
    let mut text = format!("{system}:{name} is shown as name=value: its print format ");
    // A reason quotes the format file, which may be long or hold anything.
    for c in reason.chars().take(200) {
        let _ = if c.is_control() {
            text.write_char('?')
        } else {
            text.write_char(c)
        };
    }
    text
}
