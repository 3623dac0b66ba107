//! What the rows of the current level are called.

use super::{App, Sort};
use crate::{model::VMEXIT, view::GroupBy};

impl App {
    /// Returns what is counted, in singular.
    pub(super) fn event_noun(&self) -> &'static str {
        match self.setup.kind == VMEXIT {
            true => "exit",
            false => "event",
        }
    }

    /// Returns the heading of a column.
    pub(super) fn sort_heading(&self, sort: Sort) -> &'static str {
        match sort {
            Sort::Exits if self.setup.kind != VMEXIT => "events/s",
            sort => sort.name(),
        }
    }

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
