//! What spans and causes are counted under.

/// What is counted under: two fields of an event.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Of `kvm_exit`, the exit reason, unmasked (on arm64 `esr_ec`); of another kind of event, what
    /// there is to know of it: a port, an address, a number.
    pub code: u64,
    /// Of `kvm_exit`, the `isa` (1 = VMX, 2 = SVM; on arm64 `ret`); of another kind of event, what its
    /// codes are told apart by: read or write, say. 0 where there is nothing.
    pub subcode: u32,
    /// Which of the kinds, where several are counted side by side (causes); otherwise 0.
    pub kind: u32,
}

const _: () = assert!(size_of::<Key>() == 16);

crate::pod::pod!(Key);
