//! kvm-collector
