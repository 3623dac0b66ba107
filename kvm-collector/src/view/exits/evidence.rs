//! What the advice on a row is based on.

use serde::Serialize;

/// The numbers that advice is based on: those of all vCPUs of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evidence {
    /// Exits per second of a vCPU.
    pub exits_per_vcpu_s: f64,
    /// Share of the non-idle time of the exits in the time of the vCPUs, 0 to 1.
    pub vcpu_time_ratio: f64,
}

impl Evidence {
    /// Returns the numbers on exits with a duration, their non-idle time, and the time of the vCPUs. `None` if the
    /// time of the vCPUs is not known.
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates and shares need no more precision"
    )]
    pub(super) fn new(exits: u64, busy_ns: u64, vcpu_ns: u64) -> Option<Self> {
        (vcpu_ns > 0).then(|| Self {
            exits_per_vcpu_s: exits as f64 * 1e9 / vcpu_ns as f64,
            vcpu_time_ratio: busy_ns as f64 / vcpu_ns as f64,
        })
    }
}
