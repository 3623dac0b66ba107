//! The guest on arm64.

mod code;
mod gic;
pub mod help;
mod isa;
mod kind;
mod layout;
mod mode;
mod plan;
mod registers;
mod system_register;
mod vcpu;

pub use isa::Isa;
pub use kind::Kind;
pub use mode::Mode;

pub(super) use gic::Devices;
pub(super) use layout::{MAX_BOOT_PAGES, RAM_START};
pub(super) use vcpu::{
    HostCpu, handle_exit, init_vcpu, prepare_shutdown, read_progress, write_program,
};
