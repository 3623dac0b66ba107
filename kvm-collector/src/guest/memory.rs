//! Guest memory, mapped into this process.

use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::GuestError;

/// Zero-initialized private anonymous mapping. Its address is stable until it is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: only this value owns the mapping, and `start` is not bound to a thread.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` returns no reference into the mapping, and writing requires `&mut`.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(size: u64) -> Result<Self, GuestError> {
        let failed = |source: rustix::io::Errno| GuestError::Host {
            what: "the guest memory",
            source: source.into(),
        };
        let size =
            usize::try_from(size).map_err(|_| GuestError::AddressOutOfRange { gpa: size })?;
        // SAFETY: the kernel chooses the address, so the new mapping does not replace an existing one.
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
        // With huge pages, one fault would map 512 pages. An error is harmless: the kernel then has no
        // huge pages.
        // SAFETY: the range is exactly the new mapping.
        let _ = unsafe { madvise(memory.start.as_ptr().cast(), size, Advice::LinuxNoHugepage) };
        Ok(memory)
    }

    /// Returns the start address in this process.
    pub(super) fn host_address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Copies bytes to a guest-physical address. Fails if the range is outside the memory.
    pub(super) fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), GuestError> {
        let outside = || GuestError::AddressOutOfRange { gpa };
        let offset = usize::try_from(gpa).map_err(|_| outside())?;
        if offset
            .checked_add(bytes.len())
            .is_none_or(|end| end > self.size)
        {
            return Err(outside());
        }
        // SAFETY: the range is inside the mapping (checked above). The mapping is writable, and no Rust
        // reference points into it.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len())
        };
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range is exactly this mapping, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_outside_the_memory_are_rejected() {
        let mut memory = Memory::new(0x1000).unwrap();
        assert!(memory.write(0xffe, &[1, 2]).is_ok());
        assert!(matches!(
            memory.write(0xfff, &[1, 2]),
            Err(GuestError::AddressOutOfRange { gpa: 0xfff })
        ));
        assert!(memory.write(u64::MAX, &[1]).is_err());
    }
}
