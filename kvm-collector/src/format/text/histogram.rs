//! Histograms of durations as text, with a bar per bucket, or per group of adjacent buckets.

use std::io::{self, Write};

use kvm_ebpf_common::{BUCKETS_PER_OCTAVE, bucket_index, bucket_start};

use super::{style::TextStyle, table::INDENT, wrap::write_title};
use crate::{
    format::{
        row_names::{as_text, row_name},
        units::{count, duration},
    },
    view::{Bucket, ExitRow},
};

/// Maximum number of lines that are finer than powers of two.
const MAX_LINES: usize = 24;

/// Length of the longest bar, in characters, if it fits into the line.
const MAX_BAR: usize = 50;

/// Length of the longest bar in a very narrow output.
const MIN_BAR: usize = 5;

/// Width of a line before the bar, without the count: indent, bounds, and the spaces before and after the count.
const LABEL_WIDTH: usize = INDENT.len() + 10 + 4 + 10 + 1 + 2;

/// Writes the histogram of a row with at most [`MAX_LINES`] lines, or one per power of two. JSON has all buckets.
pub(super) fn write_histogram(
    row: &ExitRow,
    unit: &str,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let what = match unit {
        "exit" => "time from exit to next entry",
        _ => "time of the exit that is charged to an event",
    };
    writeln!(out)?;
    write_title(&format!("{}: {what}", row_name(row, as_text)), style, out)?;
    let buckets = merge(row.histogram.as_deref().unwrap_or_default());
    let largest = buckets.iter().map(|it| it.count).max().unwrap_or(0).max(1);
    let count_width = count(largest).len();
    let max_bar = style.max_width.unwrap_or(usize::MAX);
    let max_bar = max_bar.saturating_sub(LABEL_WIDTH + count_width);
    let max_bar = max_bar.clamp(MIN_BAR, MAX_BAR);
    for Bucket {
        from_ns,
        to_ns,
        count: exit_count,
    } in buckets
    {
        // Rounding up: a bucket that is not empty has at least one character.
        let length = (u128::from(exit_count) * max_bar as u128).div_ceil(u128::from(largest));
        let bar = "#".repeat(usize::try_from(length).unwrap_or(0));
        let to = if to_ns == u64::MAX {
            "...".into()
        } else {
            duration(to_ns)
        };
        let line = format!(
            "{INDENT}{:>10} .. {to:<10} {:>count_width$}  {bar}",
            duration(from_ns),
            count(exit_count)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Merges adjacent buckets until there are at most [`MAX_LINES`], or one per power of two.
fn merge(buckets: &[Bucket]) -> Vec<Bucket> {
    let sizes = (1..=BUCKETS_PER_OCTAVE).filter(|size| BUCKETS_PER_OCTAVE.is_multiple_of(*size));
    let mut merged = Vec::new();
    for size in sizes {
        merged = merge_by(buckets, size);
        if merged.len() <= MAX_LINES {
            break;
        }
    }
    merged
}

/// Merges `size` buckets into one. The bounds of the merged buckets are multiples of their length.
fn merge_by(buckets: &[Bucket], size: usize) -> Vec<Bucket> {
    let mut merged: Vec<Bucket> = Vec::new();
    for bucket in buckets {
        let index = bucket_index(bucket.from_ns);
        // The first bucket is below the first power of two, the last one is unbounded.
        let (first, end) = match index.checked_sub(1) {
            Some(position) if bucket.to_ns != u64::MAX => {
                let first = position / size * size + 1;
                (bucket_start(first), bucket_start(first + size))
            }
            _ => (bucket.from_ns, bucket.to_ns),
        };
        match merged.last_mut() {
            Some(last) if last.from_ns == first => {
                last.count = last.count.saturating_add(bucket.count);
            }
            _ => merged.push(Bucket {
                from_ns: first,
                to_ns: end,
                count: bucket.count,
            }),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use kvm_ebpf_common::BUCKETS;

    use super::*;

    /// Returns consecutive buckets with one exit each.
    fn buckets(indices: std::ops::Range<usize>) -> Vec<Bucket> {
        indices
            .map(|index| Bucket {
                from_ns: bucket_start(index),
                to_ns: bucket_start(index + 1),
                count: 1,
            })
            .collect()
    }

    #[test]
    fn lines_are_as_fine_as_their_number_permits() {
        assert_eq!(merge(&buckets(1..25)), buckets(1..25));
        for end in [25, 60, 200] {
            let merged = merge(&buckets(1..end));
            let counts: u64 = merged.iter().map(|it| it.count).sum();
            assert_eq!(counts, end as u64 - 1);
            assert!(merged.len() <= MAX_LINES, "{end}");
            assert!(
                merged
                    .windows(2)
                    .all(|pair| pair[0].to_ns == pair[1].from_ns)
            );
        }
    }

    #[test]
    fn unbounded_buckets_stay_alone() {
        let ends = [
            Bucket {
                from_ns: 0,
                to_ns: bucket_start(1),
                count: 1,
            },
            Bucket {
                from_ns: bucket_start(BUCKETS - 1),
                to_ns: u64::MAX,
                count: 2,
            },
        ];
        assert_eq!(merge_by(&ends, BUCKETS_PER_OCTAVE), ends);
    }
}
