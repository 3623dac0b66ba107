//! Copies the record of an event word by word.

use core::{
    ffi::c_void,
    ptr::{read_volatile, write_volatile},
};

use kvm_ebpf_common::{COMMON_FIELDS_BYTES, MAX_COPIED_BYTES};

/// Copies one integer of a record. Volatile, so that it stays one load at a constant offset: the
/// verifier accepts no other access to a record.
macro_rules! copy_integer {
    ($type:ty, $from:expr, $to:expr, $offset:expr) => {
        // SAFETY: the caller of `copy_fields` ensures that both sides have this many bytes.
        unsafe {
            let from = $from.byte_add(COMMON_FIELDS_BYTES + $offset);
            let value = read_volatile(from.cast::<$type>());
            write_volatile($to.add($offset).cast::<$type>(), value);
        }
    };
}

/// Copies the last 0 to 7 bytes, from an offset on.
macro_rules! copy_last_bytes {
    ($from:expr, $to:expr, $offset:expr, $bytes:expr) => {
        if $bytes & 4 != 0 {
            copy_integer!(u32, $from, $to, $offset);
            if $bytes & 2 != 0 {
                copy_integer!(u16, $from, $to, $offset + 4);
                if $bytes & 1 != 0 {
                    copy_integer!(u8, $from, $to, $offset + 6);
                }
            } else if $bytes & 1 != 0 {
                copy_integer!(u8, $from, $to, $offset + 4);
            }
        } else if $bytes & 2 != 0 {
            copy_integer!(u16, $from, $to, $offset);
            if $bytes & 1 != 0 {
                copy_integer!(u8, $from, $to, $offset + 2);
            }
        } else if $bytes & 1 != 0 {
            copy_integer!(u8, $from, $to, $offset);
        }
    };
}

/// Copies `bytes` bytes of a record, from the end of its common fields on.
///
/// This takes a few instructions; the kernel's helper takes about a hundred. The verifier knows the
/// length as a constant and removes the branches for other lengths.
#[inline(never)]
pub(crate) fn copy_fields(from: *const c_void, to: *mut u8, bytes: usize) {
    macro_rules! copy_words {
        ($($offset:literal)*) => {$(
            if bytes < $offset + 8 {
                copy_last_bytes!(from, to, $offset, bytes);
                return;
            }
            copy_integer!(u64, from, to, $offset);
        )*};
    }
    copy_words!(0 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120);
}

const _: () = assert!(MAX_COPIED_BYTES == 128);
