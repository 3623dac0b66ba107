//! kvm-collector: an eBPF-based KVM event collector.
//!
//! A `source` gives samples and events, a `view` turns them into rows, a `format` writes rows as
//! bytes. `probe` is the only module that knows of eBPF, `tracefs` the only one that knows what the
//! kernel calls things; `cli` wires them together. See ARCHITECTURE.md.

pub mod cli;
pub mod convert;
pub mod doctor;
pub mod format;
pub mod guest;
pub mod host;
pub mod model;
pub mod probe;
pub mod recording;
pub mod source;
pub mod tracefs;
pub mod tui;
pub mod view;
