//! Locations of the event fields that the timing of exits reads, from the events' formats.

use kvm_ebpf_common::{FIELDS, FieldId, FieldPlace, NO_OFFSET};

use super::TimingError;
use crate::tracefs::Format;

/// The location of each [`FieldId`], by its number. Fields without a location read as 0.
#[derive(Debug, Clone)]
pub(crate) struct FieldLocations(Box<[FieldPlace; FIELDS]>);

impl Default for FieldLocations {
    fn default() -> Self {
        Self(Box::new([FieldPlace::none(0); FIELDS]))
    }
}

impl FieldLocations {
    /// Sets the location of a field.
    pub(crate) fn set(&mut self, field: FieldId, location: FieldPlace) {
        self.0[field.number()] = location;
    }

    /// Returns the location of a field.
    pub(crate) fn get(&self, field: FieldId) -> FieldPlace {
        self.0[field.number()]
    }

    /// Returns the location of the field with this number.
    pub(crate) fn by_number(&self, number: usize) -> Option<&FieldPlace> {
        self.0.get(number)
    }
}

/// Locates an integer field of `bytes` bytes. If the event has no such field, the location reads as
/// `otherwise`.
pub(crate) fn locate(
    event: Option<&Format>,
    field: &str,
    bytes: usize,
    otherwise: u32,
) -> FieldPlace {
    let location = event
        .and_then(|event| event.field(field))
        .filter(|field| field.size == bytes && !field.is_dynamic())
        .and_then(|field| {
            Some(FieldPlace {
                offset: u32::try_from(field.offset).ok()?,
                bytes: u32::try_from(field.size).ok()?,
                otherwise,
            })
        });
    location.unwrap_or(FieldPlace::none(otherwise))
}

/// Locates a `u32` field, as [`locate`] does.
pub(crate) fn locate_u32(event: Option<&Format>, field: &str, otherwise: u32) -> FieldPlace {
    locate(event, field, 4, otherwise)
}

/// Locates a field that the event must have.
pub(super) fn locate_required(
    format: &Format,
    field: &str,
    bytes: usize,
) -> Result<FieldPlace, TimingError> {
    let location = locate(Some(format), field, bytes, 0);
    match location.offset {
        NO_OFFSET => Err(no_field_error(format, field)),
        _ => Ok(location),
    }
}

/// Locates an integer field that the event must have, of any length that the eBPF programs can
/// read.
pub(super) fn locate_integer(format: &Format, field: &str) -> Result<FieldPlace, TimingError> {
    let bytes = format
        .field(field)
        .filter(|it| matches!(it.size, 1 | 2 | 4 | 8) && !it.is_dynamic())
        .map(|it| it.size);
    locate_required(format, field, bytes.unwrap_or(0))
}

fn no_field_error(format: &Format, field: &str) -> TimingError {
    let names: Vec<_> = format.fields.iter().map(|it| it.name.as_str()).collect();
    TimingError::NoField {
        event: format.event_name().to_string(),
        field: field.to_owned(),
        available: names.join(", "),
    }
}
