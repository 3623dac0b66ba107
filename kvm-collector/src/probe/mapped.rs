//! Array maps as memory: what the kernel half writes is read in place, without a system call.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd},
    ptr::NonNull,
};

use aya::{Ebpf, Pod, maps::Map};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::ProbeError;

/// An array map as memory that the kernel half writes to.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: the memory is the map's, not any thread's.
unsafe impl<T> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// The array of a name.
    pub(super) fn of(ebpf: &Ebpf, name: &'static str) -> Result<Self, ProbeError> {
        let map = ebpf
            .map(name)
            .ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
        Self::new(map).map_err(|source| ProbeError::Mapping { name, source })
    }

    fn new(map: &Map) -> io::Result<Self> {
        let Map::Array(data) = map else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let len = data.info().map_err(io::Error::other)?.max_entries() as usize;
        // The kernel's array has elements of a multiple of 8 bytes, as these types have.
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let start = map_shared(data.fd().as_fd(), len * size_of::<T>())?;
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// How many elements it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// An element's address; the memory behind it may change at any time.
    pub(super) fn at(&self, index: usize) -> NonNull<T> {
        assert!(index < self.len, "the kernel half gave an index of its own");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.add(index) }
    }

    /// A word of an element.
    pub(super) fn word(&self, index: usize, offset: usize) -> u64 {
        assert!(offset + 8 <= size_of::<T>() && offset.is_multiple_of(8));
        // SAFETY: within the element, aligned, valid for any bits; volatile as below.
        unsafe {
            self.at(index)
                .byte_add(offset)
                .cast::<u64>()
                .as_ptr()
                .read_volatile()
        }
    }

    /// An element as it is now, word by word: the kernel may write meanwhile.
    pub(super) fn read(&self, index: usize) -> T {
        let mut copy = MaybeUninit::<T>::uninit();
        // SAFETY: within the mapping, and valid for any bits. A call of the C library, which no compiler sees through: a
        // volatile read of thousands of bytes takes three times as long.
        unsafe {
            let to = copy.as_mut_ptr().cast();
            libc::memcpy(to, self.at(index).as_ptr().cast(), size_of::<T>());
            copy.assume_init()
        }
    }

    /// Writes a word of an element.
    pub(super) fn set_word(&self, index: usize, offset: usize, word: u64) {
        assert!(offset + 8 <= size_of::<T>() && offset.is_multiple_of(8));
        // SAFETY: as in `word`.
        unsafe {
            let to = self.at(index).byte_add(offset).cast::<u64>();
            to.as_ptr().write_volatile(word);
        }
    }

    /// What lies in an element at an offset.
    pub(super) fn read_at<U: Pod>(&self, index: usize, offset: usize) -> U {
        assert!(offset + size_of::<U>() <= size_of::<T>());
        // SAFETY: within the element, and valid for any bits; perhaps unaligned.
        unsafe {
            let from = self.at(index).byte_add(offset).cast::<U>();
            from.as_ptr().read_unaligned()
        }
    }

    /// Copies bytes of an element that the kernel half does not write to any more.
    pub(super) fn copy(&self, index: usize, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= size_of::<T>());
        // SAFETY: within the element; the slice is this process's own.
        unsafe {
            let from = self.at(index).byte_add(offset).cast::<u8>();
            from.as_ptr()
                .copy_to_nonoverlapping(to.as_mut_ptr(), to.len());
        }
    }

    /// Zeroes an element that the kernel half does not use.
    pub(super) fn clear(&self, index: usize) {
        // SAFETY: within the mapping; all zeros are valid.
        unsafe { self.at(index).as_ptr().write_bytes(0, 1) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, which nothing refers to any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

fn map_shared(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a mapping of its own, at an address the kernel chooses.
    let start = unsafe {
        mmap(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            // Populated, or the first reading would take a fault for every page.
            MapFlags::SHARED | MapFlags::POPULATE,
            fd,
            0,
        )
    }?;
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
