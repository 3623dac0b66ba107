//! kvm-collector

pub mod cli;
pub mod doctor;
pub mod guest;
pub mod host;
