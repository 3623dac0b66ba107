//! Joins the first of many values for a message.

/// Joins the first `max_values` values: `npf, hlt, ...`.
#[must_use]
pub fn join_first(values: impl IntoIterator<Item = String>, max_values: usize) -> String {
    let mut values = values.into_iter();
    let mut first: Vec<_> = values.by_ref().take(max_values).collect();
    if values.next().is_some() {
        first.push("...".to_owned());
    }
    first.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_values_are_dots() {
        let join = |count: u32| join_first((0..count).map(|it| it.to_string()), 3);
        assert_eq!(join(0), "");
        assert_eq!(join(3), "0, 1, 2");
        assert_eq!(join(1000), "0, 1, 2, ...");
    }
}
