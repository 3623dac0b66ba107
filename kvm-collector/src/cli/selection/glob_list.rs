//! The values of an option that takes a list of globs.

use crate::bounds::split_list;

/// The globs of one occurrence of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct GlobList(pub(super) Vec<String>);

impl GlobList {
    /// Parses a list of globs. Commas in braces and brackets belong to a glob.
    ///
    /// # Errors
    /// A message with the limit, if there are too many globs.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        split_list(text).map(Self)
    }

    /// Returns the globs of all occurrences of an option.
    pub(in crate::cli) fn all(lists: &[Self]) -> Vec<String> {
        lists.iter().flat_map(|it| it.0.iter().cloned()).collect()
    }
}
