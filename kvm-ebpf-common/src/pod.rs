//! A macro that marks the shared types as plain old data and proves that they are.

/// Implements `aya::Pod` for types, in user space only.
macro_rules! pod {
    ($($type:ty),* $(,)?) => {$(
        #[cfg(feature = "user")]
        // SAFETY: every bit pattern is valid and there is no padding. The derived zerocopy traits,
        // which the function below requires, prove both.
        unsafe impl aya::Pod for $type {}
        #[cfg(feature = "user")]
        const _: () = {
            const fn is_plain<T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable>() {}
            is_plain::<$type>();
        };
    )*};
}
pub(crate) use pod;
