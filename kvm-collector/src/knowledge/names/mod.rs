//! Names of well-known numbers: one table per kind of number. A kernel that exports a name has
//! priority over these tables.

pub mod cpuid;
pub mod exit_reason;
pub mod hypercall;
pub mod mmio;
pub mod msr;
pub mod port;
pub mod sysreg;
mod table;
pub mod userspace;

pub use table::NumberRange;
