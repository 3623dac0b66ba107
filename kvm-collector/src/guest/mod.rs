//! The built-in guest: a tiny virtual machine that makes a known number of exits.
//!
//! It is the oracle the other parts are measured against. Its program is a loop of a few instructions, generated for
//! the [`Plan`], so how often each of them ran is known by construction and checked by the guest's own registers at
//! the end; every return of `KVM_RUN` is counted beside it. [`Made`] reports both.
//!
//! What one vCPU does, in order:
//!
//! 1. it touches its boot pages for the first time: its code, and in long mode its three page tables
//!    ([`Mode::boot_pages`]). With nested paging each costs one page-fault exit;
//! 2. one `out` to port [`BOOT_PORT`], after which the next vCPU of the VM boots;
//! 3. [`Plan::exits`] rounds; in each round every kind of [`Plan::kinds`] once, in the order given;
//! 4. one `out` to port [`END_PORT`], after which it is not entered again.
//!
//! Both `out`s count as [`Kind::Io`].
//!
//! Nothing else leaves the guest: no interrupt controller, no timer, no descriptor tables (unless a kind asked for is
//! about them), every page private to its vCPU. What remains is the host's: interrupts that arrive while the guest runs (`interrupt`, `EXTERNAL_INTERRUPT`),
//! and pages it takes back from the guest under memory pressure, which fault again.
//!
//! Several VMs of one [`Plan`] live in one process, so they share a tgid: tools that tell VMs apart by process see one.

mod code;
mod error;
mod interrupts;
mod irqchip;
mod isa;
mod kind;
mod layout;
mod made;
mod memory;
mod plan;
mod registers;
mod run;
mod times;
mod vcpu;
mod vm;

pub use code::{BOOT_PORT, END_PORT, PORT};
pub use error::GuestError;
pub use isa::Isa;
pub use kind::{Kind, UnknownKind};
pub use made::{Made, VcpuMade, VmMade};
pub use plan::{Mode, Plan, UnknownMode};
#[cfg(feature = "test-api")]
pub use run::run;
pub use run::{Guest, Roster, VcpuThread, VmThreads};
pub use times::Times;
