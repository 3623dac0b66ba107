//! Identities of threads and vCPUs.

/// A process and one of its threads, by the kernel's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId {
    /// The process: the kernel's thread group id.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
}

/// A vCPU: its process, index and thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId {
    /// The VMM's process, by its [`process_id`](super::process_id). 0 stands for the aggregate of
    /// older VMs that have ended.
    pub tgid: u32,
    /// The vCPU's index, or [`VCPU_UNKNOWN`](kvm_ebpf_common::VCPU_UNKNOWN).
    pub vcpu: u32,
    /// The vCPU's thread. 0 if the thread has ended and the index alone identifies the vCPU.
    pub tid: u32,
}

impl VcpuId {
    /// Returns the process and the thread.
    #[must_use]
    pub fn thread(&self) -> ThreadId {
        ThreadId {
            tgid: self.tgid,
            tid: self.tid,
        }
    }
}
