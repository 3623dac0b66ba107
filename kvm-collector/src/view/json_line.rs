//! The version of the JSON output, which each object starts with.

use serde::Serialize;

/// Version of the JSON output. It changes when the meaning or the name of a field changes.
pub(super) const SCHEMA_VERSION: u32 = 2;

/// A line of JSON that is not a report, such as an event: the version, and then the fields of an object.
#[derive(Debug, Serialize)]
pub struct JsonLine<T> {
    schema_version: u32,
    #[serde(flatten)]
    object: T,
}

impl<T: Serialize> JsonLine<T> {
    /// Creates the line of an object, which must be serialized as a struct or a map.
    pub fn new(object: T) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            object,
        }
    }
}
