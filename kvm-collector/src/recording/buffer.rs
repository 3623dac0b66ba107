//! Memory that is read into, over and over: new memory would have to be zeroed by the kernel first.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// Read at a time. What is read is looked at at once, while it is in the processor's cache.
pub(super) const CHUNK: usize = 256 << 10;

/// As much memory is kept for later at most.
const MOST_SPARE: usize = (64 << 20) / CHUNK;

/// What has been read and not been given out.
#[derive(Debug)]
pub(super) struct Buffer {
    state: State,
    spare: Arc<Spare>,
}

#[derive(Debug)]
enum State {
    /// Nothing of it has been given out: more can be put behind it.
    Open(Vec<u8>),
    /// The rest of what is given out.
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
            spare: Arc::default(),
        }
    }
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.state {
            State::Open(vec) => vec,
            State::Shared(bytes) => bytes,
        }
    }

    /// Where more is put behind it, with room for so much at least.
    pub(super) fn open(&mut self, room: usize) -> &mut Vec<u8> {
        if let State::Shared(bytes) = &self.state {
            let mut vec = self.spare.take();
            vec.extend_from_slice(bytes);
            self.state = State::Open(vec);
        }
        match &mut self.state {
            State::Open(vec) => {
                vec.reserve(room);
                vec
            }
            State::Shared(_) => unreachable!("it was opened"),
        }
    }

    /// Gives out its first bytes.
    pub(super) fn take(&mut self, bytes: usize) -> Bytes {
        if let State::Open(vec) = &mut self.state {
            let vec = mem::take(vec);
            self.state = State::Shared(self.spare.share(vec));
        }
        match &mut self.state {
            State::Shared(shared) => shared.split_to(bytes),
            State::Open(_) => unreachable!("it was shared"),
        }
    }

    pub(super) fn clear(&mut self) {
        self.state = State::Shared(Bytes::new());
    }
}

/// Memory that can be used again.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(CHUNK + (64 << 10)))
    }

    fn put_back(&self, mut vec: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE && vec.capacity() <= 2 * CHUNK {
            vec.clear();
            spare.push(vec);
        }
    }

    /// Of these bytes the memory comes back when nobody has them any more.
    fn share(self: &Arc<Self>, vec: Vec<u8>) -> Bytes {
        // What is held back takes no more memory than twice what it is, however little came at a time.
        if vec.len() < vec.capacity() / 2 {
            let bytes = Bytes::copy_from_slice(&vec);
            self.put_back(vec);
            return bytes;
        }
        Bytes::from_owner(Lent {
            vec,
            back: Arc::clone(self),
        })
    }
}

struct Lent {
    vec: Vec<u8>,
    back: Arc<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.vec
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.back.put_back(mem::take(&mut self.vec));
    }
}
