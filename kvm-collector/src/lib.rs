//! kvm-collector

pub mod tracefs;
