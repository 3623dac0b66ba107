//! A reorder buffer: holds back items that arrive nearly in time order, and emits them in time
//! order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    mem,
};

/// Holds back items until no earlier item can arrive.
///
/// Items come in blocks: an item is, for example, the offset of a record in a block of records.
/// Blocks are not copied. A block is dropped when all of its items have been emitted.
#[derive(Debug)]
pub(super) struct ReorderBuffer<B, I> {
    blocks: VecDeque<Block<B, I>>,
    /// The number of the first block in `blocks`. Blocks are numbered in the order in which they
    /// were added.
    first_block: u64,
    /// For each block that has items left: the time of its next item, and its number. Items with
    /// the same time are emitted in the order in which their blocks were added.
    next_items: BinaryHeap<Reverse<(u64, u64)>>,
    /// Number of items that have not been emitted.
    held: usize,
    /// The latest time of the emitted items.
    last_ns: u64,
    late: u64,
    /// The empty item list of a dropped block, for reuse.
    spare: Vec<(u64, I)>,
}

#[derive(Debug)]
struct Block<B, I> {
    block: B,
    /// In time order.
    items: Vec<(u64, I)>,
    /// Number of items that have been emitted.
    emitted: usize,
}

impl<B, I> Default for ReorderBuffer<B, I> {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            first_block: 0,
            next_items: BinaryHeap::new(),
            held: 0,
            last_ns: 0,
            late: 0,
            spare: Vec::new(),
        }
    }
}

/// Sorts the items of a block by time. Items with the same time keep their order.
pub(super) fn sort<I>(items: &mut [(u64, I)]) {
    // The stable sort is fast for items that are nearly in order.
    items.sort_by_key(|item| item.0);
}

impl<B, I: Copy> ReorderBuffer<B, I> {
    /// Adds a block with its items, which must be sorted by time.
    pub(super) fn add(&mut self, block: B, items: Vec<(u64, I)>) {
        let Some((time_ns, _)) = items.first() else {
            return;
        };
        let number = self.first_block + self.blocks.len() as u64;
        self.next_items.push(Reverse((*time_ns, number)));
        self.held += items.len();
        self.blocks.push_back(Block {
            block,
            items,
            emitted: 0,
        });
    }

    /// Returns an empty item list, which reuses memory of a dropped block.
    pub(super) fn spare_list(&mut self) -> Vec<(u64, I)> {
        mem::take(&mut self.spare)
    }

    /// Returns the number of items that have not been emitted.
    pub(super) fn held_items(&self) -> usize {
        self.held
    }

    /// Emits all items up to `until_ns` in time order; also later items, if more than `max_held`
    /// would be held.
    ///
    /// `each` gets the block, the time and the item. It returns whether the item is an event: only
    /// events count as [`ReorderBuffer::late`].
    pub(super) fn emit_until<E>(
        &mut self,
        until_ns: u64,
        max_held: usize,
        mut each: impl FnMut(&B, u64, I) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut is_done = false;
        while !is_done && let Some(Reverse((_, number))) = self.next_items.pop() {
            // Emit from this block until another block has an earlier item.
            let next = self
                .next_items
                .peek()
                .map_or((u64::MAX, u64::MAX), |it| it.0);
            let index = usize::try_from(number - self.first_block).unwrap_or(usize::MAX);
            let Some(block) = self.blocks.get_mut(index) else {
                continue;
            };
            let mut head = None;
            for (time_ns, item) in block.items[block.emitted..].iter().copied() {
                is_done = time_ns > until_ns && self.held <= max_held;
                if is_done || (time_ns, number) > next {
                    head = Some(Reverse((time_ns, number)));
                    break;
                }
                block.emitted += 1;
                self.held -= 1;
                if each(&block.block, time_ns, item)? {
                    self.late += u64::from(time_ns < self.last_ns);
                    self.last_ns = self.last_ns.max(time_ns);
                }
            }
            self.next_items.extend(head);
        }
        self.drop_emitted_blocks();
        Ok(())
    }

    /// Returns the number of events that were emitted after an event with a later time, because
    /// they arrived too late.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Drops the leading blocks of which all items have been emitted.
    fn drop_emitted_blocks(&mut self) {
        while let Some(block) = self.blocks.pop_front_if(|it| it.emitted == it.items.len()) {
            self.first_block += 1;
            self.spare = block.items;
            self.spare.clear();
        }
    }

    /// Sums up the sizes of all blocks.
    pub(super) fn block_bytes(&self, bytes: impl Fn(&B) -> usize) -> usize {
        self.blocks.iter().map(|it| bytes(&it.block)).sum()
    }

    #[cfg(test)]
    pub(super) fn block_count(&self) -> usize {
        self.blocks.len()
    }
}
