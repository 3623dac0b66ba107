//! Events as JSON.

use std::{cell::RefCell, io};

use serde::{Serialize, ser::SerializeMap as _};

use crate::{
    model::{Event, pid_of},
    outside_text::write_json,
    tracefs::{Field, FieldKind, Format},
    view::{ReportOrigin, vm_cache::NamedVm},
};

/// An event with its host, VM, vCPU and thread. Its members have the names and the order of the columns of `convert`.
pub(super) struct EventObject<'a> {
    pub(super) event: &'a Event<'a>,
    pub(super) format: &'a Format,
    pub(super) origin: &'a ReportOrigin,
    pub(super) vm: &'a NamedVm,
    pub(super) vcpu: Option<u32>,
    pub(super) comm: &'a str,
    /// Buffer for names of values.
    pub(super) name: &'a RefCell<Vec<u8>>,
}

impl Serialize for EventObject<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            event,
            format,
            origin,
            vm,
            vcpu,
            comm,
            name,
        } = self;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("time_ns", &event.time_ns)?;
        object.serialize_entry("time", &origin.utc_time(event.time_ns))?;
        object.serialize_entry("host", &origin.header.host)?;
        object.serialize_entry("boot_id", &origin.header.boot_id)?;
        object.serialize_entry("cpu", &event.cpu)?;
        object.serialize_entry("pid", &pid_of(event.tgid))?;
        object.serialize_entry("tid", &event.tid)?;
        object.serialize_entry("comm", comm)?;
        object.serialize_entry("vm", &vm.name.name)?;
        object.serialize_entry("vm_uuid", &vm.uuid_text)?;
        object.serialize_entry("vcpu", vcpu)?;
        object.serialize_entry("system", &format.system)?;
        object.serialize_entry("event", format.full_name())?;
        let raw = event.raw;
        object.serialize_entry("fields", &Fields { raw, format, name })?;
        object.end()
    }
}

/// Appends the fields of an event's record as a JSON object, as in the lines. `name` is a buffer for
/// names of values.
///
/// # Errors
/// Never: writing to memory does not fail.
pub fn write_fields_json(
    raw: &[u8],
    format: &Format,
    name: &RefCell<Vec<u8>>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    write_json(&Fields { raw, format, name }, out)
}

/// Serializes the fields of an event as a JSON object: numbers as numbers, text as strings, and other
/// fields as arrays of bytes. A field with named values is an object with `value` and `name`.
struct Fields<'a> {
    raw: &'a [u8],
    format: &'a Format,
    /// Buffer for the name of a value.
    name: &'a RefCell<Vec<u8>>,
}

impl Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let name = &mut *self.name.borrow_mut();
        for field in &self.format.fields {
            let value = Value {
                raw: self.raw,
                field,
            };
            if !self.format.has_names_for(field) {
                map.serialize_entry(&field.name, &value)?;
                continue;
            }
            name.clear();
            self.format.append_value_names(field, self.raw, name);
            let name = std::str::from_utf8(name)
                .ok()
                .filter(|name| !name.is_empty());
            map.serialize_entry(&field.name, &NamedValue { value, name })?;
        }
        map.end()
    }
}

/// A value with its name, if this value has one.
#[derive(Serialize)]
struct NamedValue<'a> {
    value: Value<'a>,
    name: Option<&'a str>,
}

/// Serializes the value of one field.
struct Value<'a> {
    raw: &'a [u8],
    field: &'a Field,
}

impl Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { raw, field } = self;
        match field.kind {
            FieldKind::Bool => field.read_u64(raw).map(|it| it != 0).serialize(serializer),
            FieldKind::Integer if field.signed => field.read_i64(raw).serialize(serializer),
            FieldKind::Integer | FieldKind::Pointer => field.read_u64(raw).serialize(serializer),
            FieldKind::Chars => {
                let text = field
                    .bytes(raw)
                    .and_then(|bytes| bytes.split(|it| *it == 0).next());
                text.map(String::from_utf8_lossy).serialize(serializer)
            }
            _ => field.bytes(raw).serialize(serializer),
        }
    }
}
