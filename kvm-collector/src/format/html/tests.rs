//! A page of what was made up.
