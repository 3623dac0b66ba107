//! Array maps that are mapped into this process, so that they are read without a system call.
//!
//! Programs write to this memory at any time, so it is only accessed as atomic words. A value of several words that is read
//! while it changes may have old and new words.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, BorrowedFd},
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{Ebpf, maps::Map};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::{FromBytes, IntoBytes};

use super::error::ProbeError;

/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u64>();

/// An array map of values in shared memory.
#[derive(Debug)]
pub(super) struct MappedArray<T> {
    start: NonNull<AtomicU64>,
    len: usize,
    values: PhantomData<T>,
}

// SAFETY: the memory belongs to no thread, and is accessed as atomic words only.
unsafe impl<T> Send for MappedArray<T> {}

impl<T: FromBytes + IntoBytes> MappedArray<T> {
    /// Number of words of a value. In the kernel's array, the size of a value is a multiple of 8 bytes.
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(WORD_BYTES));
        size_of::<T>() / WORD_BYTES
    };

    /// Opens the map with this name.
    pub(super) fn open(ebpf: &Ebpf, name: &'static str) -> Result<Self, ProbeError> {
        let map = ebpf
            .map(name)
            .ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
        Self::map(map).map_err(|source| ProbeError::Mapping { name, source })
    }

    fn map(map: &Map) -> io::Result<Self> {
        let Map::Array(data) = map else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let len = data.info().map_err(io::Error::other)?.max_entries() as usize;
        let start = mmap_shared(data.fd().as_fd(), len * size_of::<T>())?;
        Ok(Self {
            start: start.cast(),
            len,
            values: PhantomData,
        })
    }

    /// Returns the number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the words of all values.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this many words, is page-aligned, and lives as long as `self`. Any bits are valid. All
        // accesses are atomic; programs store a word with one instruction.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len * Self::WORDS) }
    }

    /// Returns the words of a value.
    ///
    /// # Panics
    /// If there is no value with this index.
    pub(super) fn value_words(&self, index: usize) -> &[AtomicU64] {
        &self.words()[index * Self::WORDS..][..Self::WORDS]
    }

    /// Returns a word of a value, by its offset in bytes.
    pub(super) fn word(&self, index: usize, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(WORD_BYTES));
        &self.value_words(index)[offset / WORD_BYTES]
    }

    /// Reads a value word by word.
    pub(super) fn read(&self, index: usize) -> T {
        let mut value = T::new_zeroed();
        copy_words(self.value_words(index), value.as_mut_bytes());
        value
    }

    /// Clears a value that no program uses.
    pub(super) fn clear(&self, index: usize) {
        for word in self.value_words(index) {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// Copies words to bytes. Stops at the end of the shorter one.
fn copy_words(words: &[AtomicU64], to: &mut [u8]) {
    for (word, bytes) in words.iter().zip(to.chunks_exact_mut(WORD_BYTES)) {
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: `map` created this mapping, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

fn mmap_shared(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe {
        mmap(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            // Populated, because otherwise the first reading causes a page fault for each page.
            MapFlags::SHARED | MapFlags::POPULATE,
            fd,
            0,
        )
    }?;
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_copied_in_their_order() {
        let words = [0x0102_0304_0506_0708, u64::MAX].map(AtomicU64::new);
        let mut bytes = [0; 16];
        copy_words(&words, &mut bytes);
        assert_eq!(bytes[..8], 0x0102_0304_0506_0708_u64.to_ne_bytes());
        assert_eq!(bytes[8..], [0xff; 8]);
    }
}
