//! One level of drilling down, and windows on top of it.

use crate::view::{GroupKey, Scope};

/// A window on top of the screen. It receives the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// No window.
    None,
    /// The help, scrolled to this line.
    Help(u16),
    /// The prompt for the filter. Contains the previous filter, which Esc restores.
    Filter(String),
}

/// One level of drilling down.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    pub(super) scope: Scope,
    /// Row of the cursor. If `None`, the cursor stays on the first row while rows are re-sorted.
    pub(super) selected: Option<GroupKey>,
    /// Only rows with this text in their name are shown. Case does not matter.
    pub(super) filter: String,
    /// Number of rows above the first visible one.
    pub(super) offset: usize,
}
