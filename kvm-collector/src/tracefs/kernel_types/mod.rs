//! Types of the kernel that print formats use but format files do not describe: the layout of unions,
//! and the values of enumerators.
//!
//! They differ between kernels. So they come from the BTF of the running kernel ([`RunningKernel`]), or
//! from the recording ([`KernelTypeTable`]).

mod btf;
mod btf_view;
mod running_kernel;
mod table;
#[cfg(test)]
mod test_btf;
mod types;

pub use running_kernel::RunningKernel;
pub use table::KernelTypeTable;
pub use types::{BitRange, KernelTypes};
