//! The claim that the shared types are plain old data, and its proof.

/// Marks types as plain old data for aya, in user space only.
macro_rules! pod {
    ($($type:ty),* $(,)?) => {$(
        #[cfg(feature = "user")]
        // SAFETY: every bit pattern is valid and there is no padding: both are proved by zerocopy, whose derived traits
        // the function below requires.
        unsafe impl aya::Pod for $type {}
        #[cfg(feature = "user")]
        const _: () = {
            const fn is_plain<T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable>() {}
            is_plain::<$type>();
        };
    )*};
}
pub(crate) use pod;
