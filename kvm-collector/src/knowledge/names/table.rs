//! Tables of numbers and what they are called.

/// Numbers at equal distances, with one name: what it counts, if anything, stands where the name has `#`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    first: u64,
    last: u64,
    step: u64,
    name: &'static str,
}

/// One number.
pub(super) const fn one(number: u64, name: &'static str) -> Known {
    every(number, number, 1, name)
}

/// Numbers in a row.
pub(super) const fn row(first: u64, last: u64, name: &'static str) -> Known {
    every(first, last, 1, name)
}

/// Every so manieth number from the first to the last.
pub(super) const fn every(first: u64, last: u64, step: u64, name: &'static str) -> Known {
    Known {
        first,
        last,
        step,
        name,
    }
}

/// The name of a number, if the table has one.
pub(super) fn find(table: &[Known], number: u64) -> Option<String> {
    let known = table.iter().find(|known| {
        (known.first..=known.last).contains(&number)
            && (number - known.first).is_multiple_of(known.step)
    })?;
    let index = (number - known.first) / known.step;
    Some(known.name.replace('#', &index.to_string()))
}

/// Is any number in the table twice? Then one of its names is wrong, or never seen.
#[cfg(test)]
pub(super) fn assert_no_number_twice(table: &[Known]) {
    let mut all = std::collections::BTreeMap::new();
    for known in table {
        assert!(known.first <= known.last, "{known:?}");
        for number in (known.first..=known.last).step_by(usize::try_from(known.step).unwrap()) {
            if let Some(other) = all.insert(number, known.name) {
                panic!("{number:#x} is {other} and {}", known.name);
            }
        }
    }
}
