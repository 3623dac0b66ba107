//! A buffer for reading files. Its parts can be shared without copying. It reuses memory, because
//! the kernel has to zero new memory first.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// The number of bytes to read at once. They fit into the CPU's cache, so that they are still there when
/// they are decoded.
pub(super) const READ_BYTES: usize = 256 << 10;

/// The maximum number of unused buffers in the pool (64 MiB).
const MAX_SPARE_BUFFERS: usize = (64 << 20) / READ_BYTES;

/// Bytes that are read but not consumed yet.
#[derive(Debug)]
pub(super) struct Buffer {
    state: State,
    pool: Arc<Pool>,
}

#[derive(Debug)]
enum State {
    /// No part is shared, so more bytes can be appended.
    Owned(Vec<u8>),
    /// The remaining bytes of a shared buffer.
    Shared(Bytes),
}

impl Default for Buffer {
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Self {
        Self {
            state: State::Shared(bytes),
            pool: Arc::default(),
        }
    }
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.state {
            State::Owned(vec) => vec,
            State::Shared(bytes) => bytes,
        }
    }

    /// Returns the bytes as a vector to which at least `additional` bytes can be appended.
    pub(super) fn make_writable(&mut self, additional: usize) -> &mut Vec<u8> {
        if let State::Shared(bytes) = &self.state {
            let mut vec = self.pool.take();
            vec.extend_from_slice(bytes);
            self.state = State::Owned(vec);
        }
        match &mut self.state {
            State::Owned(vec) => {
                vec.reserve(additional);
                vec
            }
            State::Shared(_) => unreachable!("the buffer was made writable above"),
        }
    }

    /// Removes and returns the first bytes.
    pub(super) fn split_to(&mut self, bytes: usize) -> Bytes {
        if let State::Owned(vec) = &mut self.state {
            let vec = mem::take(vec);
            self.state = State::Shared(self.pool.share(vec));
        }
        match &mut self.state {
            State::Shared(shared) => shared.split_to(bytes),
            State::Owned(_) => unreachable!("the buffer was shared above"),
        }
    }

    pub(super) fn clear(&mut self) {
        self.state = State::Shared(Bytes::new());
    }
}

/// Unused buffers.
#[derive(Debug, Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        let vec = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // A partial record (up to 64 KiB) may precede the bytes that are read at once.
        vec.unwrap_or_else(|| Vec::with_capacity(READ_BYTES + (64 << 10)))
    }

    fn put_back(&self, mut vec: Vec<u8>) {
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unused.len() < MAX_SPARE_BUFFERS && vec.capacity() <= 2 * READ_BYTES {
            vec.clear();
            unused.push(vec);
        }
    }

    /// Turns a vector into shared bytes. Its memory returns to the pool when the last reference is
    /// dropped.
    fn share(self: &Arc<Self>, vec: Vec<u8>) -> Bytes {
        // Copy small amounts, so that shared bytes never hold more than twice their size.
        if vec.len() < vec.capacity() / 2 {
            let bytes = Bytes::copy_from_slice(&vec);
            self.put_back(vec);
            return bytes;
        }
        Bytes::from_owner(PooledBytes {
            vec,
            pool: Arc::clone(self),
        })
    }
}

/// The owner of shared bytes.
struct PooledBytes {
    vec: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for PooledBytes {
    fn as_ref(&self) -> &[u8] {
        &self.vec
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        self.pool.put_back(mem::take(&mut self.vec));
    }
}
