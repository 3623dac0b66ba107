//! Reports as human-readable text: aligned columns with units, followed by what is missing.

mod advice;
mod diff;
mod exits;
mod exits_table;
mod histogram;
mod loss;
mod slow_exit;
mod stat;
mod style;
mod table;
mod vcpu_table;

pub use diff::write_exits_diff;
pub use exits::write_exits;
pub use slow_exit::write_slow_exit;
pub use stat::write_stat;
pub use style::TextStyle;
