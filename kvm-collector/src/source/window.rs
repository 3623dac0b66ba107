//! Holding back what comes nearly in order, and giving it out in order.

use std::collections::VecDeque;

/// Items in blocks, held back until nothing earlier can come any more.
///
/// An item is a place in a block; the bytes are never copied. Blocks go when all of theirs is given out.
#[derive(Debug)]
pub(super) struct Window<B> {
    blocks: VecDeque<B>,
    /// The number of the first of `blocks`, counted from the beginning.
    first: u64,
    held: Vec<Held>,
    /// How many of `held` have been given out.
    given: usize,
    sorted: bool,
    /// Time of the last item given out.
    last_ns: u64,
    late: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    time_ns: u64,
    block: u64,
    place: usize,
}

impl<B> Default for Window<B> {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            first: 0,
            held: Vec::new(),
            given: 0,
            sorted: true,
            last_ns: 0,
            late: 0,
        }
    }
}

impl<B> Window<B> {
    /// Holds an item of the block that [`Window::add_block`] adds next.
    pub(super) fn hold(&mut self, time_ns: u64, place: usize) {
        let newest = self.held.last().map_or(0, |held| held.time_ns);
        self.sorted &= time_ns >= newest;
        self.held.push(Held {
            time_ns,
            block: self.first + self.blocks.len() as u64,
            place,
        });
    }

    /// Adds the block whose items were held since the last.
    pub(super) fn add_block(&mut self, block: B) {
        self.blocks.push_back(block);
    }

    /// How many items are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Gives out the items up to a time, in order, and all but the newest `most_held` whatever their time.
    /// `each` says of an item whether it is
    /// an event: only for those does it matter to come too late.
    pub(super) fn give_out<E>(
        &mut self,
        until_ns: u64,
        most_held: usize,
        mut each: impl FnMut(&B, usize) -> Result<bool, E>,
    ) -> Result<(), E> {
        if !self.sorted {
            // Stable: what has the same time stays in the order it was queued in.
            self.held[self.given..].sort_by_key(|held| held.time_ns);
            self.sorted = true;
        }
        while let Some(held) = self.held.get(self.given).copied() {
            if held.time_ns > until_ns && self.held.len() - self.given <= most_held {
                break;
            }
            self.given += 1;
            let block = usize::try_from(held.block - self.first).unwrap_or(usize::MAX);
            let Some(block) = self.blocks.get(block) else {
                continue;
            };
            if each(block, held.place)? {
                self.late += u64::from(held.time_ns < self.last_ns);
                self.last_ns = self.last_ns.max(held.time_ns);
            }
        }
        self.let_go();
        Ok(())
    }

    /// How many items were given out after one with a later time: held back not long enough.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Lets go of the blocks that all has been given out of.
    fn let_go(&mut self) {
        self.held.drain(..self.given);
        self.given = 0;
        let needed = self.held.iter().map(|held| held.block).min();
        let end = self.first + self.blocks.len() as u64;
        while self.first < needed.unwrap_or(end) {
            self.blocks.pop_front();
            self.first += 1;
        }
    }

    /// What the blocks take together.
    pub(super) fn block_bytes(&self, bytes: impl Fn(&B) -> usize) -> usize {
        self.blocks.iter().map(bytes).sum()
    }

    #[cfg(test)]
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }
}
