//! Names of numbers: one table per namespace.

pub(crate) mod cpuid;
pub(crate) mod hypercall;
pub(crate) mod mmio;
pub(crate) mod msr;
pub(crate) mod port;
mod table;
pub(crate) mod userspace;
