//! eBPF programs for the tracepoints of KVM, and for a few of the scheduler.
//!
//! Programs:
//! - [`slots`] counts events and emits their records to user space, with one program per slot;
//! - [`exit`], [`detail`] and [`sched_switch`] time VM exits;
//! - [`learn_vcpu`] finds out which vCPU a thread runs;
//! - [`thread_end`] handles the end of threads;
//! - [`empty_programs`] do nothing and are for benchmarks.
//!
//! Tables that programs update:
//! - [`slot_counter`] and [`timing_counters`]: counters per CPU;
//! - [`counted_threads`]: event counters per thread;
//! - [`vcpu_threads`] and [`thread_entry`]: the state of each vCPU thread;
//! - [`rows`]: exit statistics per thread and key;
//! - [`vcpu_index_reuse`]: the thread that entered each vCPU last.
//!
//! Output to user space: [`emit`] and [`slow_exit`] write records to a per-CPU [`ring`], and
//! [`notification`] reports new and ended threads.
//!
//! Programs know no event names or field offsets. User space writes all they need to [`settings`].

#![no_std]
#![no_main]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "for atomic additions, see `atomics`")
)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]

mod atomics;
mod clock;
mod copy;
mod counted_threads;
mod detail;
mod emit;
mod empty_programs;
mod epoch;
mod exit;
mod field;
mod filter;
mod learn_vcpu;
mod maps;
mod notification;
mod ring;
mod rows;
mod sched_switch;
mod settings;
mod slot_counter;
mod slots;
mod slow_exit;
mod task;
mod thread_end;
mod thread_entry;
mod timing_counters;
mod tracepoint;
mod vcpu_index_reuse;
mod vcpu_threads;

/// The kernel permits several helpers only to programs with a GPL-compatible license.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier rejects every program that could reach this.
    loop {}
}
