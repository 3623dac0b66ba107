//! Parses the `format` file of a trace event, which lists the fields of its records and says how the
//! kernel prints them.

use std::sync::{Arc, OnceLock};

use super::field::Field;
use super::kernel_types::{KernelTypeTable, KernelTypes};
use super::print_fmt::PrintFmt;
use crate::outside_text::OutsideText;

/// The maximum size of a `format` file in bytes. The largest of Linux 6.18 has 13 KiB.
const MAX_TEXT: usize = 256 << 10;
/// The maximum number of fields. Most events have about a dozen.
const MAX_FIELDS: usize = 256;

/// The fields and the print format of a trace event.
#[derive(Clone, Debug)]
pub struct Format {
    /// The event system, such as `kvm`.
    pub system: String,
    /// The name of the event, such as `kvm_exit`.
    pub name: String,
    pub(super) full_name: Box<str>,
    /// The number of the event. Its records have it in their field `common_type`.
    pub id: u16,
    /// The fields that the records of all events start with.
    pub common_fields: Vec<Field>,
    /// The event's own fields.
    pub fields: Vec<Field>,
    print: LazyPrintFmt,
}

/// A print format that is compiled when it is needed first: not all commands print events, and some
/// print formats need the kernel's types.
#[derive(Clone, Debug)]
struct LazyPrintFmt {
    /// The text after `print fmt:`, if there is one.
    text: Option<Box<str>>,
    types: Arc<dyn KernelTypes>,
    compiled: OnceLock<Result<(PrintFmt, KernelTypeTable), String>>,
}

/// An error in a format file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct FormatError {
    /// The number of the line, from 1.
    pub line: usize,
    /// The error in this line.
    pub problem: FormatProblem,
}

/// The kind of an error in a format file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatProblem {
    /// The file is too long.
    #[error("more than {MAX_TEXT} bytes")]
    TooLong,
    /// The event has too many fields.
    #[error("more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// There is no `name:` line.
    #[error("no event name")]
    NoName,
    /// There is no `ID:` line, or it has no number.
    #[error("no event ID")]
    NoId,
    /// A `field:` line is malformed.
    #[error("bad field: {0}")]
    Field(&'static str),
}

impl Format {
    /// Parses the text of a `format` file of a kernel whose types are not known.
    ///
    /// # Errors
    /// If the file is malformed.
    #[cfg(feature = "test-api")]
    pub fn parse(system: &str, text: &str) -> Result<Format, FormatError> {
        Self::parse_with_types(system, text, Arc::new(KernelTypeTable::default()))
    }

    /// Parses the text of a `format` file of the kernel that has these types. A print format that cannot
    /// be compiled is not an error; see [`Format::print_warning`].
    ///
    /// # Errors
    /// If the file is malformed.
    pub fn parse_with_types(
        system: &str,
        text: &str,
        types: Arc<dyn KernelTypes>,
    ) -> Result<Format, FormatError> {
        let problem = |line: usize, problem| FormatError { line, problem };
        if text.len() > MAX_TEXT {
            return Err(problem(1, FormatProblem::TooLong));
        }
        let (before_print_fmt, print_fmt) = match text.split_once("print fmt:") {
            Some((before, after)) => (before, Some(after.trim())),
            None => (text, None),
        };
        let (mut name, mut id, mut all_fields) = (None, None, Vec::new());
        let mut line_number = 0;
        for (index, line) in before_print_fmt.lines().enumerate() {
            line_number = index + 1;
            let line = line.trim();
            if let Some(text) = line.strip_prefix("name:") {
                name = Some(text.trim().to_owned());
            } else if let Some(text) = line.strip_prefix("ID:") {
                id = text.trim().parse().ok();
            } else if line.starts_with("field:") {
                if all_fields.len() == MAX_FIELDS {
                    return Err(problem(line_number, FormatProblem::TooManyFields));
                }
                all_fields.push(
                    Field::parse(line)
                        .map_err(|reason| problem(line_number, FormatProblem::Field(reason)))?,
                );
            }
        }
        let name = name
            .filter(|name| !name.is_empty())
            .ok_or(problem(line_number, FormatProblem::NoName))?;
        let id = id.ok_or(problem(line_number, FormatProblem::NoId))?;
        let (common_fields, fields): (Vec<Field>, Vec<Field>) = all_fields
            .into_iter()
            .partition(|field| field.name.starts_with("common_"));
        let print = LazyPrintFmt {
            text: print_fmt.map(Into::into),
            types,
            compiled: OnceLock::new(),
        };
        Ok(Format {
            system: system.to_owned(),
            full_name: format!("{system}:{name}").into(),
            name,
            id,
            common_fields,
            fields,
            print,
        })
    }

    /// Returns the field with this name, which may be a common field.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .chain(&self.common_fields)
            .find(|field| field.name == name)
    }

    /// Returns the end of the fixed part in bytes. No complete record is shorter.
    pub fn min_record_size(&self) -> usize {
        let ends = self
            .common_fields
            .iter()
            .chain(&self.fields)
            .map(|field| field.offset + field.size);
        ends.max().unwrap_or(0)
    }

    /// Returns the number of bytes to capture for the fixed part. Like the kernel's struct, it is
    /// rounded up to a multiple of 8.
    pub fn fixed_size(&self) -> usize {
        self.min_record_size().next_multiple_of(8)
    }

    /// Whether arrays can follow the fixed part.
    pub fn has_dynamic_fields(&self) -> bool {
        self.fields.iter().any(Field::is_dynamic)
    }

    /// Appends the text of a record, as `trace_pipe` prints it after `event: `. Allocates only to grow
    /// `out`, and at the first call to compile the print format.
    ///
    /// Prints `<truncated>` for a value that is missing because the record is too short, and
    /// `<undefined>` for one that C does not define. Differs from the kernel in two conversions. `%p`
    /// prints the address, while the kernel hashes it with a secret key unless its option `hash-ptr`
    /// is off. `%pS` prints an address instead of a symbol.
    pub fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        match self.print_fmt() {
            Ok(print) => print.print(record, out),
            Err(_) => self.print_fields(record, out),
        }
    }

    /// Returns the reason why [`Format::print`] prints this event as `name=value`. `None` if it uses
    /// the print format.
    pub fn print_warning(&self) -> Option<&str> {
        self.print_fmt().err()
    }

    /// Returns what the print format needs to know of the kernel's types. A recording stores it.
    #[must_use]
    pub fn used_types(&self) -> Option<&KernelTypeTable> {
        self.compiled().as_ref().ok().map(|it| &it.1)
    }

    fn print_fmt(&self) -> Result<&PrintFmt, &str> {
        match self.compiled() {
            Ok((print_fmt, _)) => Ok(print_fmt),
            Err(warning) => Err(warning),
        }
    }

    fn compiled(&self) -> &Result<(PrintFmt, KernelTypeTable), String> {
        let LazyPrintFmt {
            text,
            types,
            compiled,
        } = &self.print;
        compiled.get_or_init(|| {
            let text = text.as_deref().ok_or_else(|| "is missing".to_owned());
            let compiled = text.and_then(|text| {
                PrintFmt::compile(text, &self.common_fields, &self.fields, &**types)
            });
            compiled.map_err(|reason| warning(&self.system, &self.name, &reason))
        })
    }

    /// Whether the print format has names for values of this field.
    pub fn has_names_for(&self, field: &Field) -> bool {
        let print = self.print_fmt();
        print.is_ok_and(|print| print.has_names_for(field.offset))
    }

    /// Appends the names that the kernel prints for a field's value in this record: the name of the
    /// value, then the names of its flags. Examples are `npf` and `INVALID_STATE FAILED_VMENTRY`.
    /// Appends nothing if the value has no name.
    pub fn append_value_names(&self, field: &Field, record: &[u8], out: &mut Vec<u8>) {
        if let Ok(print) = self.print_fmt() {
            print.append_value_names(field.offset, record, out);
        }
    }

    /// Returns the name that the kernel prints for a value of a field. `None` if there is no name, or
    /// if the name depends on other fields.
    #[must_use]
    pub fn value_name(&self, field: &str, value: u64) -> Option<String> {
        let named_field = self.field(field)?;
        let name = |record: &[u8]| {
            let mut name = Vec::new();
            self.append_value_names(named_field, record, &mut name);
            String::from_utf8(name).ok().filter(|it| !it.is_empty())
        };
        // The name does not depend on the other fields if it is the same when they are all 0 and all 1.
        let ones: Vec<_> = self.fields.iter().map(|it| (it.name.as_str(), 1)).collect();
        let mut ones = self.record_with_values(&ones);
        let zeros = self.record_with_values(&[(field, value)]);
        let end = (named_field.offset + named_field.size).min(zeros.len());
        let bytes = named_field.offset..end;
        ones.get_mut(bytes.clone())?
            .copy_from_slice(zeros.get(bytes)?);
        name(&zeros).filter(|it| name(&ones).as_ref() == Some(it))
    }

    /// Appends `name=value` for each field that is not a common field, followed by the name of the
    /// value in parentheses if it has one. Text is printed unchanged, arrays as `{0x1,0x2}`, pointers
    /// and unsigned 64-bit numbers in base 16, other numbers in base 10.
    pub fn print_fields(&self, record: &[u8], out: &mut Vec<u8>) {
        for (index, field) in self.fields.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(field.name.as_bytes());
            out.push(b'=');
            field.print(record, out);
            let value_end = out.len();
            out.push(b'(');
            self.append_value_names(field, record, out);
            if out.len() == value_end + 1 {
                out.truncate(value_end);
            } else {
                out.push(b')');
            }
        }
    }

    /// Returns the name that is printed after the literal text `label` in a record with these field
    /// values. Other fields are 0. An empty `label` means the start of the text.
    ///
    /// For example, the label `reason ` and the values `isa` 2 and `exit_reason` 0x400 of `kvm_exit`
    /// result in `npf`. `None` if the value has no name, or if the kernel prints no text there.
    pub fn symbolic_name(&self, label: &str, fields: &[(&str, u64)]) -> Option<String> {
        self.print_fmt()
            .ok()?
            .symbolic_name(label, &self.record_with_values(fields))
    }

    /// Returns the table in which [`Format::symbolic_name`] looks up the name: values and their names,
    /// sorted by value.
    pub fn symbolic_names(&self, label: &str, fields: &[(&str, u64)]) -> Vec<(u64, String)> {
        self.print_fmt().map_or_else(
            |_| Vec::new(),
            |print| print.symbolic_names(label, &self.record_with_values(fields)),
        )
    }

    /// Builds a record with these field values. All other bytes are 0.
    pub(super) fn record_with_values(&self, fields: &[(&str, u64)]) -> Vec<u8> {
        let mut record = vec![0; self.fixed_size()];
        for (name, value) in fields {
            if let Some(field) = self.field(name) {
                let bytes = record.iter_mut().skip(field.offset).take(field.size);
                bytes
                    .zip(native_bytes(*value, field.size))
                    .for_each(|(byte, value)| *byte = value);
            }
        }
        record
    }
}

/// Returns the `size` low bytes of `value` in the byte order of this machine.
fn native_bytes(value: u64, size: usize) -> impl Iterator<Item = u8> {
    let skipped = if cfg!(target_endian = "big") {
        8_usize.saturating_sub(size)
    } else {
        0
    };
    value.to_ne_bytes().into_iter().skip(skipped)
}

fn warning(system: &str, name: &str, reason: &str) -> String {
    // The reason can quote the format file, which may be long.
    let reason = OutsideText::new(reason).shortened(200);
    format!("{system}:{name} is shown as name=value: its print format {reason}")
}
