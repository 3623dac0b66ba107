//! Holding back what comes nearly in order, and giving it out in order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    mem,
};

/// Items in blocks, held back until nothing earlier can come any more.
///
/// An item is a place in a block, or what else is known of it; blocks are never copied. They go when all of theirs is given out.
#[derive(Debug)]
pub(super) struct Window<B, I> {
    blocks: VecDeque<Block<B, I>>,
    /// The number of the first of `blocks`, counted from the beginning.
    first: u64,
    /// The time of the next item of each block that has any, and the block's number: what has the same time stays in the
    /// order it was queued in.
    heads: BinaryHeap<Reverse<(u64, u64)>>,
    /// How many items are held.
    held: usize,
    /// Time of the last item given out.
    last_ns: u64,
    late: u64,
    /// Memory for the items of a block to come.
    spare: Vec<(u64, I)>,
}

#[derive(Debug)]
struct Block<B, I> {
    block: B,
    /// In the order of their times.
    items: Vec<(u64, I)>,
    /// How many of them have been given out.
    given: usize,
}

impl<B, I> Default for Window<B, I> {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            first: 0,
            heads: BinaryHeap::new(),
            held: 0,
            last_ns: 0,
            late: 0,
            spare: Vec::new(),
        }
    }
}

/// Puts a block's items into the order of time.
pub(super) fn sort<I>(items: &mut [(u64, I)]) {
    // Most are in order already, or nearly so.
    items.sort_by_key(|item| item.0);
}

impl<B, I: Copy> Window<B, I> {
    /// Takes in a block with its items, which are sorted: the time and what it is of each.
    pub(super) fn add(&mut self, block: B, items: Vec<(u64, I)>) {
        let Some((time_ns, _)) = items.first() else {
            return;
        };
        let number = self.first + self.blocks.len() as u64;
        self.heads.push(Reverse((*time_ns, number)));
        self.held += items.len();
        self.blocks.push_back(Block {
            block,
            items,
            given: 0,
        });
    }

    /// An empty list for the items of a block, in memory that was such a list's before.
    pub(super) fn list(&mut self) -> Vec<(u64, I)> {
        mem::take(&mut self.spare)
    }

    /// How many items are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Gives out the items up to a time, in order, and all but the newest `most_held` whatever their time.
    /// `each` is told the time, too, and says of an item whether it is
    /// an event: only for those does it matter to come too late.
    pub(super) fn give_out<E>(
        &mut self,
        until_ns: u64,
        most_held: usize,
        mut each: impl FnMut(&B, u64, I) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut is_over = false;
        while !is_over && let Some(Reverse((_, number))) = self.heads.pop() {
            // From this block on, until it is another one's turn.
            let next = self.heads.peek().map_or((u64::MAX, u64::MAX), |it| it.0);
            let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            let Some(block) = self.blocks.get_mut(index) else {
                continue;
            };
            let mut head = None;
            for (time_ns, item) in block.items[block.given..].iter().copied() {
                is_over = time_ns > until_ns && self.held <= most_held;
                if is_over || (time_ns, number) > next {
                    head = Some(Reverse((time_ns, number)));
                    break;
                }
                block.given += 1;
                self.held -= 1;
                if each(&block.block, time_ns, item)? {
                    self.late += u64::from(time_ns < self.last_ns);
                    self.last_ns = self.last_ns.max(time_ns);
                }
            }
            self.heads.extend(head);
        }
        self.let_go();
        Ok(())
    }

    /// How many items were given out after one with a later time: held back not long enough.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Lets go of the first blocks, as far as all has been given out of them.
    fn let_go(&mut self) {
        while let Some(block) = self.blocks.pop_front_if(|it| it.given == it.items.len()) {
            self.first += 1;
            self.spare = block.items;
            self.spare.clear();
        }
    }

    /// What the blocks take together.
    pub(super) fn block_bytes(&self, bytes: impl Fn(&B) -> usize) -> usize {
        self.blocks.iter().map(|it| bytes(&it.block)).sum()
    }

    #[cfg(test)]
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }
}
