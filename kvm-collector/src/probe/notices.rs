//! Threads that come and go, as the eBPF programs report it.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use kvm_ebpf_common::ThreadNotification;
use zerocopy::FromBytes as _;

use super::error::ProbeError;

/// The map's name.
const NAME: &str = "NOTIFICATIONS";

/// The size of the kernel's ring buffer where threads have to be known, in bytes: for some 5,400 notices.
pub(super) const NOTIFICATION_RING_BYTES: u32 = 256 << 10;

/// The notices that have not been read.
pub(super) struct Notifications {
    ring: RingBuf<MapData>,
    /// How many could not be sent, when the tables were searched last.
    lost: u64,
}

impl std::fmt::Debug for Notifications {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
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

    /// The next one; `None` when all have been read.
    pub(super) fn next(&mut self) -> Option<ThreadNotification> {
        let item = self.ring.next()?;
        // What is no notice is ignored: only damaged memory has it.
        Some(ThreadNotification::read_from_bytes(&item).unwrap_or_default())
    }

    /// Have more been lost since the last call, given how many have been in all?
    pub(super) fn has_new_losses(&mut self, lost: u64) -> bool {
        std::mem::replace(&mut self.lost, lost) != lost
    }

    /// A descriptor that is readable when there are notices.
    pub(super) fn readable_fd(&self) -> std::io::Result<OwnedFd> {
        // SAFETY: the map's descriptor, which `self` keeps open.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
            .as_fd()
            .try_clone_to_owned()
    }
}
