//! Totals per thread and key.

use aya_ebpf::bindings::BPF_NOEXIST;
use kvm_ebpf_common::{Key, NearRow, Row, RowKey, Span, near_row};

use crate::{
    maps::{CAUSES, FREE_ROWS, ROW_OF, ROWS},
    settings,
    threads::Place,
};

/// Adds a span to its row; false when there is no room for another row.
#[inline(always)]
pub(crate) fn add<const PLAIN: bool>(place: &mut Place, span: &Span, epoch: u64) -> bool {
    let Some((index, row)) = of(place, &span.key) else {
        return false;
    };
    if !PLAIN
        && settings::causes()
        && place.thread.cause.kind != 0
        && let Some(causes) = CAUSES.get_ptr_mut(index)
    {
        // SAFETY: at the row's index, and as exclusive as the row.
        unsafe { (*causes).add(place.thread.cause, span.total_ns) };
    }
    row.stats.add(span, epoch);
    true
}

/// Adds what has no time to its row; false when there is no room for another row.
#[inline(always)]
pub(crate) fn add_untimed(place: &mut Place, key: &Key) -> bool {
    let row = of(place, key);
    row.map(|(_, row)| row.stats.add_untimed()).is_some()
}

/// A key's row and its index.
#[inline(always)]
fn of(place: &mut Place, key: &Key) -> Option<(u32, &'static mut Row)> {
    let near = &mut place.thread.near[near_row(key)];
    if near.row != 0 && near.code == key.code && near.class == key.class {
        return at(near.row - 1);
    }
    let row_key = RowKey {
        thread: u64::from(place.index),
        key: *key,
    };
    // SAFETY: a copy of a number that this thread itself has put in.
    let index = match unsafe { ROW_OF.get(row_key) } {
        Some(index) => *index,
        None => make(&row_key)?,
    };
    *near = NearRow {
        code: key.code,
        class: key.class,
        row: index + 1,
    };
    at(index)
}

#[inline(always)]
fn at(index: u32) -> Option<(u32, &'static mut Row)> {
    let row = ROWS.get_ptr_mut(index)?;
    // SAFETY: the row's thread is the current one, and a thread runs on one CPU at a time.
    Some((index, unsafe { &mut *row }))
}

#[inline(always)]
fn make(key: &RowKey) -> Option<u32> {
    let index = FREE_ROWS.pop().ok()??;
    if ROW_OF.insert(key, index, u64::from(BPF_NOEXIST)).is_err() {
        let _ = FREE_ROWS.push(index, 0);
        return None;
    }
    let (_, row) = at(index)?;
    // All else is zero, as user space has left it.
    row.key = key.key;
    row.thread = key.thread + 1;
    Some(index)
}
