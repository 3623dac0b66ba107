//! Options that select VMs, vCPUs, threads, events and exit reasons. Several commands share them.

mod describe;
mod events;
mod glob_list;
mod option;
mod reasons;
mod running;
mod target;

pub(super) use events::EventArgs;
pub(super) use glob_list::GlobList;
pub(super) use option::{Subject, TargetOption, TargetValues};
pub(super) use reasons::ReasonArgs;
pub(super) use target::TargetArgs;
