//! The HTML report of a recording: one file that loads nothing from the network.
//!
//! Tables and bars are written as HTML and work without a script. The files in `script/` draw the charts from JSON
//! in the page. All text from outside goes through [`escape`].

mod cells;
mod chart_data;
mod escape;
mod events_table;
mod exits_table;
mod findings;
mod page;
mod slowest;
mod sortable;
mod vcpu_times;
mod wall_time;

#[cfg(test)]
mod tests;

pub use page::write_overview;
