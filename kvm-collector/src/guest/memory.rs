//! The guest's memory, as this process sees it.

use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::GuestError;

/// A zeroed private mapping that stays where it is until dropped.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to the value alone; `start` is an address, not thread-bound state.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` gives out no reference into the mapping, and writing needs `&mut`.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(size: u64) -> Result<Self, GuestError> {
        let failed = |source: rustix::io::Errno| GuestError::Host {
            what: "memory for the guest",
            source: source.into(),
        };
        let size = usize::try_from(size).map_err(|_| GuestError::OutOfMemory { gpa: size })?;
        // SAFETY: a fresh anonymous mapping at an address the kernel chooses touches nothing that exists.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(failed)?;
        let start = NonNull::new(start.cast()).ok_or_else(|| failed(rustix::io::Errno::NOMEM))?;
        let memory = Self { start, size };
        // A huge page would serve 512 first touches with one fault. Kernels without huge pages refuse, and need nothing.
        // SAFETY: the range is the mapping just made.
        let _ = unsafe { madvise(memory.start.as_ptr().cast(), size, Advice::LinuxNoHugepage) };
        Ok(memory)
    }

    /// Where it is in this process.
    pub(super) fn host_address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Copies bytes to a guest-physical address.
    pub(super) fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), GuestError> {
        let outside = || GuestError::OutOfMemory { gpa };
        let offset = usize::try_from(gpa).map_err(|_| outside())?;
        if offset
            .checked_add(bytes.len())
            .is_none_or(|end| end > self.size)
        {
            return Err(outside());
        }
        // SAFETY: the range was just checked to lie inside the mapping, which is writable, ours alone and cannot
        // overlap a slice that Rust knows of.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len())
        };
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is exactly this one, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_outside_are_refused() {
        let mut memory = Memory::new(0x1000).unwrap();
        assert!(memory.write(0xffe, &[1, 2]).is_ok());
        assert!(matches!(
            memory.write(0xfff, &[1, 2]),
            Err(GuestError::OutOfMemory { gpa: 0xfff })
        ));
        assert!(memory.write(u64::MAX, &[1]).is_err());
    }
}
