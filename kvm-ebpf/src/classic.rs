//! How a classic tracepoint program begins and ends.

/// Defines a program that the kernel hands the event's record.
///
/// It returns 1. On 0 the kernel keeps the event from everybody who watches it through perf: `perf` would
/// count and record nothing of what we watch. aya's own attribute always returns 0.
macro_rules! classic {
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
pub(crate) use classic;
