//! The HTML report of a recording: one file that loads nothing from the network.
//!
//! Tables and bars are written as HTML and work without a script. `page.js` draws the charts from JSON
//! in the page. All text from outside goes through [`escape`].

mod cells;
mod chart_data;
mod escape;
mod page;
mod tables;
mod vcpu_times;

#[cfg(test)]
mod tests;

pub use page::write_overview;
