//! Where the fields lie that the timing of exits reads.

use kvm_ebpf_common::{FIELDS, FieldId, FieldPlace, NO_OFFSET};

use super::plan::TimingError;
use crate::tracefs::Format;

/// The places of all fields, by their number. The fields that nobody has set read as 0.
#[derive(Debug, Clone)]
pub(crate) struct FieldPlaces(Box<[FieldPlace; FIELDS]>);

impl Default for FieldPlaces {
    fn default() -> Self {
        Self(Box::new([FieldPlace::none(0); FIELDS]))
    }
}

impl FieldPlaces {
    /// Sets the place of a field.
    pub(crate) fn set(&mut self, field: FieldId, place: FieldPlace) {
        self.0[field.number()] = place;
    }

    /// The place of a field.
    pub(crate) fn get(&self, field: FieldId) -> FieldPlace {
        self.0[field.number()]
    }

    /// The place of the field with a number.
    pub(crate) fn by_number(&self, number: usize) -> Option<&FieldPlace> {
        self.0.get(number)
    }
}

/// Where a field is that is a number of so many bytes; if there is none, it reads as `otherwise`.
pub(crate) fn place_of(
    event: Option<&Format>,
    field: &str,
    bytes: usize,
    otherwise: u32,
) -> FieldPlace {
    let there = event
        .and_then(|event| event.field(field))
        .filter(|field| field.size == bytes && !field.is_dynamic())
        .and_then(|field| {
            Some(FieldPlace {
                offset: u32::try_from(field.offset).ok()?,
                bytes: u32::try_from(field.size).ok()?,
                otherwise,
            })
        });
    there.unwrap_or(FieldPlace::none(otherwise))
}

/// As [`place_of`], for a u32.
pub(crate) fn u32_place(event: Option<&Format>, field: &str, otherwise: u32) -> FieldPlace {
    place_of(event, field, 4, otherwise)
}

/// Where a field is that has to be there.
pub(super) fn required(
    format: &Format,
    field: &str,
    bytes: usize,
) -> Result<FieldPlace, TimingError> {
    let place = place_of(Some(format), field, bytes, 0);
    match place.offset {
        NO_OFFSET => Err(no_field(format, field)),
        _ => Ok(place),
    }
}

/// A field that has to be there, and is an integer of a length that the eBPF programs can read.
pub(super) fn integer(format: &Format, field: &str) -> Result<FieldPlace, TimingError> {
    let bytes = format
        .field(field)
        .filter(|it| matches!(it.size, 1 | 2 | 4 | 8) && !it.is_dynamic())
        .map(|it| it.size);
    required(format, field, bytes.unwrap_or(0))
}

fn no_field(format: &Format, field: &str) -> TimingError {
    let names: Vec<_> = format.fields.iter().map(|it| it.name.as_str()).collect();
    TimingError::NoField {
        event: format.event().to_string(),
        field: field.to_owned(),
        there_are: names.join(", "),
    }
}
