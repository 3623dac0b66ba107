//! The hosts or kernels of several recordings, in a heading.

use std::collections::BTreeSet;

use crate::format::row_names::as_text;

/// Maximum number of names that are listed. More are counted.
const MAX_NAMES: usize = 3;

/// Lists the different names after `prefix`: `a and b`. Counts them if there are many: `5 hosts`, if `what` is `host`. `None` if
/// none is known.
pub(super) fn distinct_names<'a>(
    names: impl Iterator<Item = &'a Option<String>>,
    prefix: &str,
    what: &str,
) -> Option<String> {
    let all: BTreeSet<_> = names.map(Option::as_deref).collect();
    let mut known: Vec<_> = all.iter().copied().flatten().map(as_text).collect();
    if known.is_empty() {
        return None;
    }
    if known.len() < all.len() {
        known.push(format!("unknown {what}s").into());
    }
    Some(match known.as_slice() {
        [only] => format!("{prefix}{only}"),
        [others @ .., last] if known.len() <= MAX_NAMES => {
            format!("{prefix}{} and {last}", others.join(", "))
        }
        many => format!("{} {what}s", many.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_or_counted() {
        let hosts = |names: &[Option<&str>]| {
            let names: Vec<_> = names.iter().map(|it| it.map(str::to_owned)).collect();
            distinct_names(names.iter(), "on ", "host")
        };
        assert_eq!(hosts(&[None, None]), None);
        for (names, expected) in [
            (&[Some("a"), Some("a")][..], "on a"),
            (&[Some("b"), Some("a"), Some("b")], "on a and b"),
            (&[Some("a"), None, Some("b")], "on a, b and unknown hosts"),
            (&[Some("a"), Some("b"), Some("c"), Some("d")], "4 hosts"),
        ] {
            assert_eq!(hosts(names).as_deref(), Some(expected));
        }
    }
}
