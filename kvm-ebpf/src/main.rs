//! The kernel half: programs for the tracepoints under `events/kvm` and `events/kvmmmu`.
//!
//! - `slots`: one small program per event slot; each counts (`count`) and, when asked, ships
//!   (`ship`) the event it is attached to.
//! - `pair`: two programs, on `kvm_exit` and `kvm_entry`, that time VM exits.
//! - `vcpu`: one program, on `kvm_entry`, that learns which vCPU a thread runs, for the vCPU filter.
//! - `thread_end`: one program, on `sched_process_exit`, that ships the names of ending threads.
//!
//! Nothing here knows an event's name or layout; what is needed comes in through `settings`.

#![no_std]
#![no_main]

mod count;
mod filter;
mod maps;
mod pair;
mod settings;
mod ship;
mod slots;
mod task;
mod thread_end;
mod vcpu;

/// Several helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier rejects any program that could get here.
    loop {}
}
