//! Notifications of the eBPF programs about new and ended threads.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use kvm_ebpf_common::ThreadNotification;
use zerocopy::FromBytes as _;

use super::error::ProbeError;

/// Name of the map.
const NAME: &str = "NOTIFICATIONS";

/// Size of the kernel's ring buffer in bytes, enough for about 5,400 notifications.
pub(super) const NOTIFICATION_RING_BYTES: u32 = 256 << 10;

/// Reads the notifications.
pub(super) struct Notifications {
    ring: RingBuf<MapData>,
    /// Number of lost notifications at the latest search of the tables.
    lost: u64,
}

impl std::fmt::Debug for Notifications {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifications").finish_non_exhaustive()
    }
}

impl Notifications {
    /// Takes the map out of the object.
    pub(super) fn take_from(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        let map = ebpf
            .take_map(NAME)
            .ok_or_else(|| ProbeError::Missing(NAME.to_owned()))?;
        let ring =
            RingBuf::try_from(map).map_err(|source| ProbeError::Map { name: NAME, source })?;
        Ok(Self { ring, lost: 0 })
    }

    /// Returns the next notification; `None` if all have been read.
    pub(super) fn next(&mut self) -> Option<ThreadNotification> {
        let item = self.ring.next()?;
        // An invalid item becomes a notification of no kind, which is ignored.
        Some(ThreadNotification::read_from_bytes(&item).unwrap_or_default())
    }

    /// Returns whether notifications were lost since the latest call. `lost` is the total number so far.
    pub(super) fn has_new_losses(&mut self, lost: u64) -> bool {
        std::mem::replace(&mut self.lost, lost) != lost
    }

    /// Returns a descriptor that is readable when there are notifications.
    pub(super) fn readable_fd(&self) -> std::io::Result<OwnedFd> {
        // SAFETY: the descriptor belongs to the map, which `self` keeps open.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
            .as_fd()
            .try_clone_to_owned()
    }
}
