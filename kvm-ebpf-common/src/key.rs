//! The key by which exits, other timed spans and causes are counted.

/// The key by which exits, other spans ([`Span`](crate::Span)) and causes are counted: the values of two
/// fields of an event.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Main value of the event. For `kvm_exit`, the unmasked exit reason (on arm64 `esr_ec`). For
    /// other events, for example a port, an address or an MSR number.
    pub code: u64,
    /// Second value, which distinguishes equal codes. For `kvm_exit`, the `isa` (1 = VMX, 2 = SVM; on
    /// arm64 `ret`). For other events, for example read or write. 0 if the event has none.
    pub subcode: u32,
    /// Kind of the cause, if several kinds are counted. Otherwise 0.
    pub kind: u32,
}

const _: () = assert!(size_of::<Key>() == 16);

crate::pod::pod!(Key);
