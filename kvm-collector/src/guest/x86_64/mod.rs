//! The guest on x86-64.

mod code;
mod exits;
pub mod help;
mod interrupts;
mod irqchip;
mod isa;
mod kind;
mod layout;
mod memory;
mod mode;
mod plan;
mod ports;
mod registers;
mod vcpu;

pub use isa::Isa;
pub use kind::Kind;
pub use mode::Mode;

pub(super) use exits::handle_exit;
pub(super) use irqchip::Devices;
pub(super) use memory::{MAX_BOOT_PAGES, RAM_START};
pub(super) use vcpu::{HostCpu, init_vcpu, prepare_shutdown, read_progress, write_program};
