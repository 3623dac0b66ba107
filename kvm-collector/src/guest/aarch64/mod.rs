//! The guest on arm64.

mod code;
mod exits;
mod gic;
pub mod help;
mod isa;
mod kind;
mod layout;
mod memory;
mod mode;
mod plan;
mod registers;
mod system_register;
mod vcpu;

pub use isa::Isa;
pub use kind::Kind;
pub use mode::Mode;

pub(super) use exits::handle_exit;
pub(super) use gic::Devices;
pub(super) use memory::{MAX_BOOT_PAGES, RAM_START};
pub(super) use vcpu::{HostCpu, init_vcpu, prepare_shutdown, read_progress, write_program};
