//! Copying an event's record.

use core::{
    ffi::c_void,
    ptr::{read_volatile, write_volatile},
};

use kvm_ebpf_common::{COMMON_FIELDS_BYTES, MAX_COPIED_BYTES};

/// A number of the record, copied. Volatile, so that it stays one load at this offset: the verifier allows no
/// other of a record.
macro_rules! copy {
    ($type:ty, $from:expr, $to:expr, $offset:expr) => {
        // SAFETY: within the record and the room for it, as `record` is told.
        unsafe {
            let from = $from.byte_add(COMMON_FIELDS_BYTES + $offset);
            let value = read_volatile(from.cast::<$type>());
            write_volatile($to.add($offset).cast::<$type>(), value);
        }
    };
}

/// Copies what is left of a record, less than a word, from an offset on.
macro_rules! rest {
    ($from:expr, $to:expr, $offset:expr, $left:expr) => {
        if $left & 4 != 0 {
            copy!(u32, $from, $to, $offset);
            if $left & 2 != 0 {
                copy!(u16, $from, $to, $offset + 4);
                if $left & 1 != 0 {
                    copy!(u8, $from, $to, $offset + 6);
                }
            } else if $left & 1 != 0 {
                copy!(u8, $from, $to, $offset + 4);
            }
        } else if $left & 2 != 0 {
            copy!(u16, $from, $to, $offset);
            if $left & 1 != 0 {
                copy!(u8, $from, $to, $offset + 2);
            }
        } else if $left & 1 != 0 {
            copy!(u8, $from, $to, $offset);
        }
    };
}

/// Copies a record's fields, so many bytes behind the common ones: word by word, which is a few instructions
/// where the kernel's helper takes a hundred. The length is a constant to the verifier, which leaves nothing of
/// this but what is done.
#[inline(never)]
pub(crate) fn fields(from: *const c_void, to: *mut u8, bytes: usize) {
    macro_rules! words {
        ($($offset:literal)*) => {$(
            if bytes < $offset + 8 {
                rest!(from, to, $offset, bytes);
                return;
            }
            copy!(u64, from, to, $offset);
        )*};
    }
    words!(0 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120);
}

const _: () = assert!(MAX_COPIED_BYTES == 128);
