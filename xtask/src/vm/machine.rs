//! The kinds of machines that a VM can have.

use clap::ValueEnum;

use super::series::Series;

/// A machine, named after the virtualization extension of its processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Machine {
    /// AMD's SVM, emulated by QEMU
    Svm,
    /// Intel's VMX, emulated by Bochs: slower, with one CPU
    Vmx,
}

impl Machine {
    /// KVM's module for the processor.
    pub(crate) fn kvm_module(self) -> &'static str {
        match self {
            Self::Svm => "kvm_amd",
            Self::Vmx => "kvm_intel",
        }
    }

    /// The kernel that boots if no other is selected.
    pub(crate) fn default_kernel(self) -> Series {
        match self {
            Self::Svm => Series::V6_12,
            Self::Vmx => Series::V6_1,
        }
    }

    pub(crate) fn default_cpus(self) -> u32 {
        match self {
            Self::Svm => 2,
            Self::Vmx => 1,
        }
    }

    pub(crate) fn default_memory_mib(self) -> u32 {
        match self {
            Self::Svm => 1024,
            Self::Vmx => 512,
        }
    }
}
