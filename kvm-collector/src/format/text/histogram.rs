//! Histograms of durations as text, with a bar per power of two.

use std::io::{self, Write};

use super::{style::TextStyle, table::INDENT};
use crate::{
    format::{
        row_names::row_name,
        units::{count, duration},
    },
    view::{Bucket, ExitRow},
};

/// Length of the longest bar, in characters.
const BAR: u64 = 50;

/// Writes the histogram of a row with one line per power of two. JSON and CSV have finer buckets.
pub(super) fn write_histogram(
    row: &ExitRow,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let title = format!("{}: time from exit to next entry", row_name(row));
    writeln!(out, "\n{INDENT}{}", style.bold(&title))?;
    let buckets = merge_by_power_of_two(&row.histogram);
    let largest = buckets.iter().map(|it| it.count).max().unwrap_or(0).max(1);
    for Bucket {
        from_ns,
        to_ns,
        count: exit_count,
    } in buckets
    {
        // Rounding up: a bucket that is not empty has at least one character.
        let length = (u128::from(exit_count) * u128::from(BAR)).div_ceil(u128::from(largest));
        let bar = "#".repeat(usize::try_from(length).unwrap_or(0));
        let to = if to_ns == u64::MAX {
            "...".into()
        } else {
            duration(to_ns)
        };
        let line = format!(
            "{INDENT}{:>10} .. {to:<10} {:>14}  {bar}",
            duration(from_ns),
            count(exit_count)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Merges buckets into one per power of two.
fn merge_by_power_of_two(buckets: &[Bucket]) -> Vec<Bucket> {
    let mut merged: Vec<Bucket> = Vec::new();
    for bucket in buckets {
        let power = bucket.from_ns.checked_ilog2();
        match merged.last_mut() {
            Some(last) if last.from_ns.checked_ilog2() == power => {
                last.to_ns = bucket.to_ns;
                last.count = last.count.saturating_add(bucket.count);
            }
            _ => merged.push(Bucket {
                from_ns: power.map_or(0, |power| 1 << power),
                ..*bucket
            }),
        }
    }
    // The last buckets of a power of two may be empty and therefore absent.
    for bucket in &mut merged {
        if let Some(power) = bucket.from_ns.checked_ilog2()
            && bucket.to_ns != u64::MAX
        {
            bucket.to_ns = 1 << (power + 1);
        }
    }
    merged
}
