//! Process and thread ids of the guests, known before their first exit.

use serde::Serialize;

/// Process and vCPU threads of all VMs of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestThreads {
    /// Process id (tgid) of all VMs.
    pub pid: u32,
    /// VMs, by index.
    pub vms: Vec<VmThreads>,
}

/// Threads of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmThreads {
    /// Index of the VM in the process, from 0.
    pub vm: u32,
    /// vCPUs, by index.
    pub vcpus: Vec<VcpuThread>,
}

/// Thread of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VcpuThread {
    /// Index of the vCPU in the VM, from 0.
    pub vcpu: u32,
    /// Thread id.
    pub tid: u32,
}
