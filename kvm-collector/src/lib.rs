//! kvm-collector: an eBPF-based KVM event collector.
//!
//! A `source` gives samples and events, a `view` turns them into rows, a `format` writes rows as
//! bytes. `probe` is the only module that knows of eBPF, `tracefs` the only one that knows what the
//! kernel calls things; `cli` wires them together. See ARCHITECTURE.md.

#![cfg_attr(
    not(feature = "test-api"),
    expect(
        unused_imports,
        unreachable_pub,
        reason = "`pub` says what a module shows others; only the tests see it from outside"
    )
)]

/// Modules that only this crate's own tests, benchmarks and fuzz targets see from outside. The feature `test-api` makes
/// them public; without it, the compiler sees what nothing uses.
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
    convert, doctor, format, guest, host, knowledge, model, probe, recording, session, source, timing, tracefs, tui, view,
}
