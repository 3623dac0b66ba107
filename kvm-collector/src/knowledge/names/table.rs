//! Tables that map numbers to names.

/// Evenly spaced numbers that share a name.
#[derive(Debug, Clone, Copy)]
pub struct NumberRange {
    first: u64,
    last: u64,
    step: u64,
    pattern: &'static str,
}

/// Names one number.
pub(super) const fn single(number: u64, name: &'static str) -> NumberRange {
    stepped(number, number, 1, name)
}

/// Names all numbers from `first` to `last`. A `#` in `pattern` stands for the index of the number,
/// which starts at 0.
pub(super) const fn range(first: u64, last: u64, pattern: &'static str) -> NumberRange {
    stepped(first, last, 1, pattern)
}

/// Names every `step`th number from `first` to `last`, as [`range()`] does.
pub(super) const fn stepped(
    first: u64,
    last: u64,
    step: u64,
    pattern: &'static str,
) -> NumberRange {
    NumberRange {
        first,
        last,
        step,
        pattern,
    }
}

impl NumberRange {
    /// The name, with `#` in the place of the index.
    #[cfg(feature = "test-api")]
    #[must_use]
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// Returns every number with its name.
    #[cfg(feature = "test-api")]
    pub fn names(&self) -> impl Iterator<Item = (u64, String)> {
        let count = (self.last - self.first) / self.step + 1;
        (0..count).map(|index| {
            let number = self.first + index * self.step;
            (number, self.pattern.replace('#', &index.to_string()))
        })
    }

    fn index(&self, number: u64) -> Option<u64> {
        let offset = number.checked_sub(self.first)?;
        let is_in_range = number <= self.last && offset.is_multiple_of(self.step);
        is_in_range.then(|| offset / self.step)
    }
}

/// Returns the name of a number.
pub(super) fn find_name(table: &[NumberRange], number: u64) -> Option<String> {
    table.iter().find_map(|range| {
        let index = range.index(number)?;
        Some(range.pattern.replace('#', &index.to_string()))
    })
}

/// Returns the name of a number, with `#` in the place of an index.
pub(super) fn find_pattern(table: &[NumberRange], number: u64) -> Option<&'static str> {
    let range = table.iter().find(|range| range.index(number).is_some())?;
    Some(range.pattern)
}

/// Fails if a table names a number twice: the second name would never be seen.
#[cfg(test)]
pub(super) fn assert_no_duplicates(table: &[NumberRange]) {
    let mut seen = std::collections::BTreeMap::new();
    for range in table {
        assert!(range.first <= range.last, "{range:?}");
        for (number, name) in range.names() {
            if let Some(other) = seen.insert(number, name.clone()) {
                panic!("{number:#x} is {other} and {name}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_range_has_a_name() {
        let table = [single(1, "ONE"), stepped(0x10, 0x14, 2, "R#_CTL")];
        let names: Vec<_> = table.iter().flat_map(NumberRange::names).collect();
        for (number, name) in &names {
            assert_eq!(find_name(&table, *number).as_ref(), Some(name));
        }
        let expected = [
            (1, "ONE"),
            (0x10, "R0_CTL"),
            (0x12, "R1_CTL"),
            (0x14, "R2_CTL"),
        ];
        let expected = expected.map(|(number, name)| (number, name.to_owned()));
        assert_eq!(names, expected);
    }

    #[test]
    fn numbers_between_the_steps_have_no_name() {
        let table = [stepped(0x10, 0x14, 2, "R#")];
        for number in [0, 0xf, 0x11, 0x15, 0x16, u64::MAX] {
            assert_eq!(find_name(&table, number), None, "{number:#x}");
            assert_eq!(find_pattern(&table, number), None, "{number:#x}");
        }
        assert_eq!(find_pattern(&table, 0x12), Some("R#"));
    }
}
