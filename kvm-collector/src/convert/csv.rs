//! Writes tables as CSV: a line with the names of the columns, and a line for each row. Losses are in no line, so
//! that the lines can be counted and each column has one type.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{
    sink::{Gap, RecordingEnd},
    table::{Cell, RowType, TableWriter},
};
use crate::format::csv_text;

/// A CSV file.
#[derive(Debug)]
pub struct Csv<W: Write> {
    writer: csv::Writer<W>,
    /// The text of a cell. Empty between calls; kept for its memory.
    text: Vec<u8>,
}

impl<W: Write> Csv<W> {
    /// Starts the file with a line of column names.
    ///
    /// # Errors
    /// If writing fails.
    pub fn new(columns: RowType, out: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(columns.columns().map(|it| it.0))?;
        Ok(Self {
            writer,
            text: Vec::new(),
        })
    }
}

impl<W: Write> TableWriter for Csv<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for cell in cells {
            let text = match cell {
                Cell::Text(text) => csv_text(text),
                Cell::Json(json) => Cow::Borrowed(*json),
                _ => Cow::Borrowed(""),
            };
            if !text.is_empty() {
                self.writer.write_field(text.as_bytes())?;
                continue;
            }
            self.text.clear();
            match cell {
                Cell::Null | Cell::Text(_) | Cell::Json(_) => {}
                Cell::Number(number) => write!(self.text, "{number}")?,
                Cell::Hex(number) => write!(self.text, "{number}")?,
                Cell::Time(time) => write!(self.text, "{time}")?,
                Cell::Bool(value) => write!(self.text, "{value}")?,
            }
            self.writer.write_field(&self.text)?;
        }
        Ok(self.writer.write_record(None::<&[u8]>)?)
    }

    fn gap(&mut self, _: &Gap<'_>) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &RecordingEnd<'_>) -> io::Result<()> {
        self.writer.flush()
    }
}
