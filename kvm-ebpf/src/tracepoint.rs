//! The entry point of classic tracepoint programs.

/// Defines a classic tracepoint program. The kernel passes it the record of the event.
///
/// The program returns 1. If it returned 0, the kernel would hide the event from perf
/// (`perf_trace_run_bpf_submit`, kernel/events/core.c). aya's own attribute always returns 0.
macro_rules! tracepoint {
    ($(#[$doc:meta])* fn $name:ident($ctx:ident) $body:block) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "tracepoint")]
        fn $name(ctx: *mut core::ffi::c_void) -> u32 {
            let $ctx = aya_ebpf::programs::TracePointContext::new(ctx);
            $body
            1
        }
    };
}
pub(crate) use tracepoint;
