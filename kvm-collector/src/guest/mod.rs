//! Built-in guest: a tiny virtual machine that causes a known number of VM exits.
//!
//! Tests and `doctor` use it as the oracle for measured exit counts. Its program is a short loop,
//! generated from a [`Plan`]. So the number of executed instructions is known in advance, and the
//! guest's registers confirm it at the end. User space counts every return of `KVM_RUN`. [`GuestReport`]
//! contains both.
//!
//! Each vCPU does the following:
//!
//! 1. It touches its boot pages ([`Mode::boot_pages`]): the code, and in long mode of x86 three page tables.
//!    With nested paging, each of them causes one page-fault exit.
//! 2. It makes one exit to user space. Then the next vCPU of the VM boots.
//! 3. It runs [`Plan::exits`] rounds. Each round executes the kinds of [`Plan::kinds`] in order.
//! 4. It makes one exit to user space and is not entered again. On arm64, the last vCPU of a VM then powers
//!    the VM off. On x86, a vCPU with [`Kind::ONCE`] is entered once more, to shut down.
//!
//! The exits of steps 2 and 4 count as `Kind::START_AND_END`.
//!
//! The guest causes no other exits. It has no interrupt controllers, timers or descriptor tables unless
//! a kind needs them, and vCPUs share no pages. The host can still cause exits: for its interrupts
//! (`interrupt`, `EXTERNAL_INTERRUPT`, `IRQ`), and for pages that fault again after it reclaimed them.
//!
//! Instructions, registers, kinds and devices depend on the architecture. They are in a folder per
//! architecture, with the same interface.
//!
//! All VMs of a [`Plan`] run in one process. Tools that identify VMs by process see them as one VM.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64/mod.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64/mod.rs"]
mod arch;
mod error;
mod file_limit;
mod kind;
mod layout;
mod memory;
mod mode;
mod plan;
mod progress;
mod report;
mod run;
mod threads;
mod time_breakdown;
mod vcpu;
mod vm;

pub use arch::{Isa, Kind, Mode, help};
pub use error::GuestError;
pub use kind::UnknownKind;
pub use mode::UnknownMode;
pub use plan::Plan;
pub use report::{GuestReport, VcpuReport, VmReport};
pub use run::Guest;
#[cfg(feature = "test-api")]
pub use run::run;
pub use threads::{GuestThreads, VcpuThread, VmThreads};
pub use time_breakdown::VcpuTimeBreakdown;
