//! The host: its processes and VMs, kernel, KVM modules, privileges and clocks. Read-only, except that
//! [`sandbox`] restricts this process.
//!
//! Functions that read `/proc` and `/sys` take a root directory, which is `/` outside of tests. What
//! cannot be read is missing from the result, or counted there as unreadable.

pub mod clock;
pub(crate) mod descriptors;
#[cfg(test)]
pub(crate) mod fake;
mod files;
pub mod kernel;
pub mod kvm;
pub mod local_time;
pub mod machine;
pub mod namespaces;
pub mod privileges;
pub mod process;
mod process_id;
pub mod sandbox;
mod task;
pub mod tracefs;
pub mod usage;
mod vcpu_activity;
mod vcpu_thread;
pub mod vm;
mod vm_identity;
pub mod vm_lister;
mod vm_name;
mod vm_names;
pub mod watch;

pub use process_id::{next_process_id, pid_of, process_id};
pub use vcpu_activity::{ActivityReader, IdleVcpu, IdleVm, VcpuActivity};
pub use vcpu_thread::Vcpu;
pub use vm_identity::{VmName, VmUuid};
pub use vm_names::VmNames;
