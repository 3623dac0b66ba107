//! Output formats: each module writes reports to a [`Write`](std::io::Write) in one format.

pub mod csv;
mod csv_text;
pub mod html;
pub mod json;
pub mod local_time;
mod loss;
mod row_names;
pub mod text;
pub mod units;

pub use csv_text::csv_text;
pub use loss::{describe_loss, describe_other_losses};
