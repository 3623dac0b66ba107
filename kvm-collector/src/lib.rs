//! kvm-collector

pub mod cli;
pub mod guest;
pub mod host;
