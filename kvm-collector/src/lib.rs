//! kvm-collector

pub mod cli;
pub mod guest;
