//! Facts about the host and this process.

use std::path::Path;

use crate::host::clock::{self, UnknownOffset};
use crate::host::kernel::{self, Kernel};
use crate::host::kvm::{self, Kvm};
use crate::host::namespaces::{self, ForeignIds};
use crate::host::privileges::{self, Privileges};
use crate::host::tracefs::{self, Tracefs};

/// Everything that the checks use, except the event counts of [`super::test_guest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// User and capabilities of this process.
    pub privileges: Privileges,
    /// Error if the ids in `/proc` differ from those that the kernel's events report.
    pub ids: Result<(), ForeignIds>,
    /// Offset of this process's monotonic clock from the kernel's; positive if it is ahead.
    pub clock_offset_ns: Result<i64, UnknownOffset>,
    /// Kernel release and settings.
    pub kernel: Kernel,
    /// KVM modules and `/dev/kvm`.
    pub kvm: Kvm,
    /// Mounted tracefs; `None` if it is not mounted.
    pub tracefs: Option<Tracefs>,
}

impl Facts {
    /// Reads the facts of the host with `/proc` and `/sys` below `root`. Privileges and
    /// namespaces are always those of this process.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        Self {
            privileges: privileges::read(),
            ids: namespaces::check_kernel_ids(),
            clock_offset_ns: clock::namespace_offset_ns(),
            kernel: kernel::read(root),
            kvm: kvm::read(root),
            tracefs: tracefs::read(root),
        }
    }
}
