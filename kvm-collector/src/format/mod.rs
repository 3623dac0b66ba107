//! How reports are written: one file per format, each `&report` and a `Write` to bytes. Nothing here
//! opens or prints.

pub mod csv;
pub mod html;
pub mod json;
pub mod text;
pub mod units;
