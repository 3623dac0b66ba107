//! Guest memory, mapped into this process.

use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::GuestError;

/// Zero-initialized private anonymous mapping. Its address is stable until it is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    /// Guest-physical address of the start.
    start_gpa: u64,
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: only this value owns the mapping, and `start` is not bound to a thread.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` returns no reference into the mapping, and writing requires `&mut`.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(start_gpa: u64, size: u64) -> Result<Self, GuestError> {
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
        let memory = Self {
            start_gpa,
            start,
            size,
        };
        // With huge pages, one fault would map 512 pages. An error is harmless: the kernel then has no
        // huge pages.
        // SAFETY: the range is exactly the new mapping.
        let _ = unsafe { madvise(memory.start.as_ptr().cast(), size, Advice::LinuxNoHugepage) };
        Ok(memory)
    }

    /// Returns the address in this process of a guest-physical address.
    pub(super) fn host_address(&self, gpa: u64) -> u64 {
        (self.start.as_ptr() as u64).wrapping_add(gpa.wrapping_sub(self.start_gpa))
    }

    /// Copies bytes to a guest-physical address. Fails if the range is outside the memory.
    pub(super) fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), GuestError> {
        let outside = || GuestError::AddressOutOfRange { gpa };
        let offset = gpa.checked_sub(self.start_gpa).ok_or_else(outside)?;
        let offset = usize::try_from(offset).map_err(|_| outside())?;
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
        let mut memory = Memory::new(0x1000, 0x1000).unwrap();
        assert!(memory.write(0x1ffe, &[1, 2]).is_ok());
        for gpa in [0xfff, 0x1fff] {
            assert!(matches!(
                memory.write(gpa, &[1, 2]),
                Err(GuestError::AddressOutOfRange { gpa: failed }) if failed == gpa
            ));
        }
        assert!(memory.write(u64::MAX, &[1]).is_err());
    }
}
