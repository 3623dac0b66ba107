//! Errors in filters.

/// An error in a filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterError {
    /// The syntax is invalid.
    #[error("filter `{filter}`: expected {expected} at `{found}`")]
    Syntax {
        /// The whole filter.
        filter: String,
        /// What is allowed at this point.
        expected: &'static str,
        /// The text at this point.
        found: String,
    },
    /// No selected event has the field.
    #[error("filter `{filter}`: no selected event has the field {field}{known}")]
    NoField {
        /// The whole filter.
        filter: String,
        /// The field, with its event if the filter names it.
        field: String,
        /// The fields of the named event, as `; kvm:kvm_pio has ...`; else empty.
        known: String,
    },
    /// The operator or the value does not suit the type of the field.
    #[error("filter `{filter}`: {field} {problem}")]
    Type {
        /// The whole filter.
        filter: String,
        /// The field, with its event.
        field: String,
        /// Why: the rest of a sentence that starts with the field.
        problem: String,
    },
}
