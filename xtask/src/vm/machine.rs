//! The kinds of machines that a VM can have.

use clap::ValueEnum;

use super::series::Series;
use crate::architecture::Architecture;

/// A machine, named after the virtualization extension of its processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Machine {
    /// AMD's SVM, emulated by QEMU
    Svm,
    /// Intel's VMX, emulated by Bochs: slower, with one CPU
    Vmx,
    /// arm64 where the host kernel runs at EL2 (VHE), emulated by QEMU
    Arm64,
    /// arm64 where the host kernel runs at EL1 (nVHE), emulated by QEMU
    Arm64Nvhe,
}

impl Machine {
    pub(crate) fn architecture(self) -> Architecture {
        match self {
            Self::Svm | Self::Vmx => Architecture::Amd64,
            Self::Arm64 | Self::Arm64Nvhe => Architecture::Arm64,
        }
    }

    /// KVM's module for the processor; `None` if KVM is built into the kernel.
    pub(crate) fn kvm_module(self) -> Option<&'static str> {
        match self {
            Self::Svm => Some("kvm_amd"),
            Self::Vmx => Some("kvm_intel"),
            Self::Arm64 | Self::Arm64Nvhe => None,
        }
    }

    /// The kernel that boots if no other is selected.
    pub(crate) fn default_kernel(self) -> Series {
        match self {
            Self::Svm | Self::Arm64 | Self::Arm64Nvhe => Series::V6_12,
            Self::Vmx => Series::V6_1,
        }
    }

    pub(crate) fn default_cpus(self) -> u32 {
        match self {
            Self::Svm | Self::Arm64 | Self::Arm64Nvhe => 2,
            Self::Vmx => 1,
        }
    }

    pub(crate) fn default_memory_mib(self) -> u32 {
        match self {
            Self::Svm | Self::Arm64 | Self::Arm64Nvhe => 1024,
            Self::Vmx => 512,
        }
    }
}
