//! Locations of the event fields that the timing of exits reads, from the events' formats.

use kvm_ebpf_common::{FIELD_COUNT, FieldId, FieldLocation, NO_OFFSET};

use super::TimingError;
use crate::tracefs::Format;

/// The location of each [`FieldId`], by its number. Fields without a location read as 0.
#[derive(Debug, Clone)]
pub(crate) struct FieldLocations(Box<[FieldLocation; FIELD_COUNT]>);

impl Default for FieldLocations {
    fn default() -> Self {
        Self(Box::new([FieldLocation::absent(0); FIELD_COUNT]))
    }
}

impl FieldLocations {
    /// Sets the location of a field.
    pub(crate) fn set(&mut self, field: FieldId, location: FieldLocation) {
        self.0[field.number()] = location;
    }

    /// Returns the location of a field.
    pub(crate) fn get(&self, field: FieldId) -> FieldLocation {
        self.0[field.number()]
    }

    /// Returns the location of the field with this number.
    pub(crate) fn by_number(&self, number: usize) -> Option<&FieldLocation> {
        self.0.get(number)
    }
}

/// Locates an integer field of `bytes` bytes. If the event has no such field, the location reads as
/// `default_value`.
pub(crate) fn locate(
    event: Option<&Format>,
    field: &str,
    bytes: usize,
    default_value: u32,
) -> FieldLocation {
    let location = event
        .and_then(|event| event.field(field))
        .filter(|field| field.size == bytes && !field.is_dynamic())
        .and_then(|field| {
            Some(FieldLocation {
                offset: u32::try_from(field.offset).ok()?,
                bytes: u32::try_from(field.size).ok()?,
                default_value,
            })
        });
    location.unwrap_or(FieldLocation::absent(default_value))
}

/// Locates a `u32` field, as [`locate`] does.
pub(crate) fn locate_u32(event: Option<&Format>, field: &str, default_value: u32) -> FieldLocation {
    locate(event, field, 4, default_value)
}

/// Locates a field that the event must have.
pub(super) fn locate_required(
    format: &Format,
    field: &str,
    bytes: usize,
) -> Result<FieldLocation, TimingError> {
    let location = locate(Some(format), field, bytes, 0);
    match location.offset {
        NO_OFFSET => Err(TimingError::no_field(format, field)),
        _ => Ok(location),
    }
}

/// Locates an integer field that the event must have, of any length that the eBPF programs can
/// read.
pub(super) fn locate_integer(format: &Format, field: &str) -> Result<FieldLocation, TimingError> {
    let bytes = format
        .field(field)
        .filter(|it| matches!(it.size, 1 | 2 | 4 | 8) && !it.is_dynamic())
        .map(|it| it.size);
    locate_required(format, field, bytes.unwrap_or(0))
}
