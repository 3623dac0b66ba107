//! Facts that no kernel exports: names of well-known numbers, and advice on frequent exits. Each
//! table names its sources. `cargo xtask names --check` compares the tables with the kernel's headers.

pub mod advice;
pub mod names;
