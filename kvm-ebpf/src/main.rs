//! The kernel half: programs for the tracepoints under `events/kvm` and `events/kvmmmu`.
//!
//! - `slots`: one small program per event slot; each counts (`count`; per thread, `counted`) and, when asked, ships
//!   (`ship`) the event it is attached to.
//! - `rings` is where shipped events lie until user space takes them, `copy` how their records get there.
//! - `pair`: programs on `kvm_exit`, `kvm_entry` and what comes between them, that time VM exits;
//!   `threads` and `rows` are what they keep, `turns` knows which thread entered
//!   a vCPU last, `detail` adds what exits are about, `switch` when a
//!   thread could not run, and `slow` reports the long ones.
//! - `vcpu`: one program, on `kvm_entry`, that learns which vCPU a thread runs, for the vCPU filter.
//! - `publish`: how memory is written that user space reads at the same time; `notice` tells it which threads come and go.
//! - `thread_end`: programs on `sched_process_exit`, that ship the names of ending threads, release
//!   their entries, and forget skipped processes.
//! - `floor`: programs that do nothing, to measure the others by.
//!
//! Nothing here knows an event's name or layout; what is needed comes in through `settings`.

#![no_std]
#![no_main]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "atomic additions, see `publish`")
)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]

mod classic;
mod clock;
mod copy;
mod count;
mod counted;
mod counters;
mod detail;
mod field;
mod filter;
mod floor;
mod maps;
mod notice;
mod pair;
mod publish;
mod rings;
mod rows;
mod settings;
mod ship;
mod slots;
mod slow;
mod switch;
mod task;
mod thread_end;
mod thread_entry;
mod threads;
mod turns;
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
