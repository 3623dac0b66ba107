//! Facts that no kernel exports: what well-known numbers are called, and what is usually done
//! about frequent exits. Each table names its source; `cargo xtask names --check` compares the
//! tables with the kernel's headers.

pub(crate) mod advice;
pub(crate) mod names;
