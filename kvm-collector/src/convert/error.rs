//! The error type of conversions.

use std::io;

use crate::{recording::ReadError, timing::TimingError};

/// Reasons why a recording cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The recording cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The events or fields that timing exits needs are missing.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}
