//! What `trace` and `record` request from the running kernel: a stream of events.

use super::tracefs::find_kvm_format;
use crate::{
    probe::MapSizes,
    source::LiveOptions,
    timing::Selection,
    tracefs::{Format, Tracefs},
};

/// Returns the request of the selected events, with a ring of `ring_bytes` per CPU, or of the default size.
///
/// # Errors
/// When the format of `kvm_entry` cannot be read.
pub(super) fn stream_options(
    tracefs: &Tracefs,
    events: Vec<Format>,
    selection: Selection,
    ring_bytes: Option<u32>,
) -> anyhow::Result<LiveOptions> {
    Ok(LiveOptions {
        events,
        selection,
        entry: find_kvm_format(tracefs, "kvm_entry")?,
        emits_events: true,
        sizes: MapSizes::default().with_rings(ring_bytes),
        ..LiveOptions::default()
    })
}
