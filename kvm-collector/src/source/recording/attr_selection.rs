//! Which events of a recording are selected, and how long their records have to be.

use crate::{recording::Attr, tracefs::Format};

/// What is requested of the events of an attr.
#[derive(Debug, Clone, Default)]
pub(super) struct AttrSelection {
    /// Where its format is among all of the recording.
    pub(super) format: Option<usize>,
    /// Its slot among the selected events.
    pub(super) slot: Option<usize>,
    /// A shorter record is damaged: the end of its last field.
    pub(super) min_bytes: usize,
    /// Its events are a sample, each of which stands for several.
    pub(super) is_sampled: bool,
}

impl AttrSelection {
    /// For an attr, given the formats of all events and of the selected ones.
    pub(super) fn of(attr: &Attr, formats: &[Format], selected: &[Format]) -> Self {
        let is_this = |format: &Format| Some(u64::from(format.id)) == attr.tracepoint;
        let format = formats.iter().position(is_this);
        Self {
            format,
            slot: selected.iter().position(is_this),
            is_sampled: attr.is_sampled,
            min_bytes: format.map_or(0, |index| formats[index].end()),
        }
    }
}
