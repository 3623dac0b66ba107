//! Reports as human-readable text: aligned columns with units, followed by what is missing.

mod advice;
mod diff;
mod distinct_names;
mod exits;
mod exits_columns;
mod exits_table;
mod heading;
mod histogram;
mod idle_vms;
mod inputs;
mod loss;
mod slow_exit;
mod stat;
mod style;
mod table;
mod vcpu_table;
mod wrap;

pub use diff::write_exits_diff;
pub use exits::write_exits;
pub use exits_columns::exit_column_names;
pub use heading::{write_heading, write_period};
pub use inputs::write_inputs;
pub use slow_exit::{write_no_slow_exit, write_slow_exit, write_slow_exits_heading};
pub use stat::write_stat;
pub use style::TextStyle;
pub use wrap::write_hanging;
