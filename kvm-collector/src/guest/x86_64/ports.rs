//! I/O ports through which the guest program communicates with user space.

/// Port that the kinds `io` and `io-read` use: the first serial port, which no device of KVM emulates.
pub(super) const IO_PORT: u16 = 0x3f8;
/// Port to which a vCPU writes when it has started.
pub(super) const BOOT_PORT: u16 = 0xf5;
/// Port to which a vCPU writes at the end of its program.
pub(super) const END_PORT: u16 = 0xf4;
/// An `out` to this port makes user space pulse a line of the PIC.
pub(super) const IRQ_PORT: u16 = 0xf6;
/// An `out` to this port makes user space pulse a line of the IOAPIC.
pub(super) const IOAPIC_PORT: u16 = 0xf7;
/// An `out` to this port makes user space send a message-signalled interrupt to the vCPU.
pub(super) const MSI_PORT: u16 = 0xf8;
/// An `out` to this port makes user space read the dirty log of the vCPU's written page.
pub(super) const DIRTY_PORT: u16 = 0xf9;
