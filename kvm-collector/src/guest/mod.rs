//! Built-in guest: a tiny virtual machine that causes a known number of VM exits.
//!
//! Tests and `doctor` use it as the oracle for measured exit counts. Its program is a short loop,
//! generated from a [`Plan`]. So the number of executed instructions is known in advance, and the
//! guest's registers confirm it at the end. User space counts every return of `KVM_RUN`. [`GuestReport`]
//! contains both.
//!
//! Each vCPU does the following:
//!
//! 1. It touches its boot pages: the code, and in long mode three page tables ([`Mode::boot_pages`]).
//!    With nested paging, each of them causes one page-fault exit.
//! 2. It executes one `out` to [`BOOT_PORT`]. Then the next vCPU of the VM boots.
//! 3. It runs [`Plan::exits`] rounds. Each round executes the kinds of [`Plan::kinds`] in order.
//! 4. It executes one `out` to [`END_PORT`] and is not entered again. Only with [`Kind::TripleFault`] it
//!    is entered once more, to shut down.
//!
//! Both `out`s count as [`Kind::Io`].
//!
//! The guest causes no other exits. It has no interrupt controllers, timers or descriptor tables unless
//! a kind needs them, and vCPUs share no pages. The host can still cause exits: for its interrupts
//! (`interrupt`, `EXTERNAL_INTERRUPT`), and for pages that fault again after it reclaimed them.
//!
//! All VMs of a [`Plan`] run in one process. Tools that identify VMs by process see them as one VM.

mod code;
mod error;
mod file_limit;
mod interrupts;
mod irqchip;
mod isa;
mod kind;
mod layout;
mod memory;
mod plan;
mod ports;
mod registers;
mod report;
mod run;
mod threads;
mod time_breakdown;
mod vcpu;
mod vm;

pub use error::GuestError;
pub use isa::Isa;
pub use kind::{Kind, UnknownKind};
pub use plan::{Mode, Plan, UnknownMode};
pub use ports::{BOOT_PORT, END_PORT, IO_PORT};
pub use report::{GuestReport, VcpuReport, VmReport};
pub use run::Guest;
#[cfg(feature = "test-api")]
pub use run::run;
pub use threads::{GuestThreads, VcpuThread, VmThreads};
pub use time_breakdown::VcpuTimeBreakdown;
