//! Filters on event fields with ftrace's operators: `kvm_pio.port == 0x3f8 && kvm_pio.rw == 1`.
//!
//! A filter concerns the events that have all of its fields. If it names an event before a field, it
//! concerns only that event. Events that no filter concerns match.
//!
//! As in ftrace (Documentation/trace/events.rst, "Event filtering"), the operators are
//! `== != < <= > >= &` for numbers, `== != ~` for text (`~` takes a glob), and `&& || ! ( )`.

mod compile;
mod error;
mod parser;
mod predicate;

#[cfg(test)]
mod tests;

use compile::{ResolveError, resolve};
pub use error::FilterError;
use parser::parse;
use predicate::Predicate;

use crate::{bounds::excerpt, tracefs::Format};

/// Compiled filters for a list of event formats.
#[derive(Debug, Default)]
pub struct Filters {
    /// The predicates of each event, in the order of the formats. An event must match all of them.
    events: Vec<Vec<Predicate>>,
}

impl Filters {
    /// Compiles filters for events with these formats.
    ///
    /// # Errors
    /// If a filter is invalid, or if it concerns none of the events.
    pub fn new(filters: &[String], formats: &[Format]) -> Result<Self, FilterError> {
        let mut events: Vec<Vec<Predicate>> = formats.iter().map(|_| Vec::new()).collect();
        for filter in filters {
            let expression = parse(filter)?;
            let mut missing = None;
            let mut concerns_any_event = false;
            for (format, predicates) in formats.iter().zip(&mut events) {
                match resolve(&expression, format, filter) {
                    Ok(predicate) => {
                        concerns_any_event = true;
                        predicates.push(predicate);
                    }
                    Err(ResolveError::OtherEvent(field)) => missing = Some(field),
                    Err(ResolveError::Error(error)) => return Err(error),
                }
            }
            if let (false, Some((event, field))) = (concerns_any_event, missing) {
                return Err(no_field(filter, event, field, formats));
            }
        }
        Ok(Self { events })
    }

    /// Returns whether any filter concerns the events of a slot.
    #[must_use]
    pub fn concerns(&self, slot: usize) -> bool {
        self.events.get(slot).is_some_and(|it| !it.is_empty())
    }

    /// Returns whether an event matches all filters that concern it. `slot` is the index of its
    /// format. A record that is too short for a field does not match.
    #[must_use]
    pub fn matches(&self, slot: usize, record: &[u8]) -> bool {
        self.events
            .get(slot)
            .is_none_or(|predicates| predicates.iter().all(|predicate| predicate.matches(record)))
    }
}

/// Returns the error for a field that no event has. If the filter names an event, the error lists its
/// fields.
fn no_field(filter: &str, event: Option<&str>, field: &str, formats: &[Format]) -> FilterError {
    let known = formats
        .iter()
        .find(|format| event == Some(&format.name))
        .map(|format| {
            let names: Vec<_> = format
                .fields
                .iter()
                .map(|field| field.name.as_str())
                .collect();
            format!(
                "; {}:{} has {}",
                format.system,
                format.name,
                names.join(", ")
            )
        });
    FilterError::NoField {
        filter: excerpt(filter).into_owned(),
        field: match event {
            Some(event) => excerpt(&format!("{event}.{field}")).into_owned(),
            None => excerpt(field).into_owned(),
        },
        known: known.unwrap_or_default(),
    }
}
