//! Says why a result is empty: what occurred nevertheless, and which options left it out.

mod contents;
mod live;
mod recorded;
mod request;

pub(super) use live::explain as explain_live;
pub(super) use recorded::{explain as explain_recorded, explain_all as explain_several};
pub(super) use request::{RecordingSelection, Request, Requested, list};
