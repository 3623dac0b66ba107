//! kvm-collector: an eBPF-based KVM event collector.
//!
//! `source` provides readings and events from the running kernel or a recording, `view` turns them into rows, and `format`
//! writes the rows. Only `probe` uses eBPF, and only `tracefs` reads the kernel's names of events and fields. `cli` connects the
//! modules. See ARCHITECTURE.md.

#![cfg_attr(
    not(feature = "test-api"),
    expect(
        unused_imports,
        unreachable_pub,
        reason = "`pub` marks the interface of a module; outside this crate, only tests use it"
    )
)]
#![deny(
    clippy::print_stderr,
    reason = "`eprint!` panics if stderr is closed; use `session::write_stderr`"
)]

/// Declares modules that only the tests, benchmarks and fuzz targets of this crate use from outside.
///
/// The feature `test-api` makes the modules public. Without it they are private, so the compiler warns about unused items.
macro_rules! modules {
    ($($module:ident),* $(,)?) => {$(
        #[cfg(feature = "test-api")]
        pub mod $module;
        #[cfg(not(feature = "test-api"))]
        mod $module;
    )*};
}

pub mod cli;
modules! {
    bounds, convert, doctor, format, guest, host, knowledge, model, outside_text, output_file, probe, recording, session, source,
    timing, tracefs, tui, view,
}
