//! What the rows of the current level are called.

use super::App;
use crate::{model::VMEXIT, view::GroupBy};

impl App {
    /// Returns the heading of the names.
    pub(super) fn name_heading(&self) -> &str {
        match self.scope().by {
            GroupBy::Vm => "VM",
            GroupBy::Vcpu => "vCPU",
            GroupBy::Reason if self.setup.kind == VMEXIT => "exit reason",
            GroupBy::Reason => &self.setup.kind,
        }
    }

    /// Returns what a row is, in singular.
    pub(super) fn row_noun(&self) -> &str {
        match self.scope().by {
            GroupBy::Reason if self.setup.kind != VMEXIT => "row",
            _ => self.name_heading(),
        }
    }
}
