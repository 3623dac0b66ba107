//! The values of an option that takes a list of globs.

use crate::bounds::split_list;

/// The globs of one occurrence of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct GlobList(pub(super) Vec<String>);

impl From<&str> for GlobList {
    /// Commas in braces and brackets belong to a glob.
    fn from(text: &str) -> Self {
        Self(split_list(text))
    }
}

impl GlobList {
    /// Returns the number of globs.
    pub(in crate::cli) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the globs of all occurrences of an option.
    pub(in crate::cli) fn all(lists: &[Self]) -> Vec<String> {
        lists.iter().flat_map(|it| it.0.iter().cloned()).collect()
    }
}
