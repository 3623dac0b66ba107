//! Writes tables as CSV: a line for each row, and a line for each gap and each kind of loss.

use std::io::{self, Write};

use super::{
    sink::{Gap, RecordingEnd},
    table::{Cell, RowType, TableWriter},
};

/// The column with the number of lost events. It is empty in all other lines.
const LOST_COLUMN: &str = "lost";

/// A CSV file.
#[derive(Debug)]
pub struct Csv<W: Write> {
    row_type: RowType,
    writer: csv::Writer<W>,
}

impl<W: Write> Csv<W> {
    /// Starts the file with a line of column names.
    ///
    /// # Errors
    /// If writing fails.
    pub fn new(columns: RowType, out: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        let names = columns.columns().map(|it| it.0).chain([LOST_COLUMN]);
        writer.write_record(names)?;
        Ok(Self {
            row_type: columns,
            writer,
        })
    }

    /// Writes a line about lost events. `label` goes to the column that identifies a row.
    fn write_loss(&mut self, time_ns: u64, label: &str, count: Option<u64>) -> io::Result<()> {
        for (name, ..) in self.row_type.columns() {
            if name == "time_ns" {
                self.writer.write_field(time_ns.to_string())?;
            } else if name == self.row_type.subject_column() {
                self.writer.write_field(label)?;
            } else {
                self.writer.write_field("")?;
            }
        }
        let count = count.map(|it| it.to_string()).unwrap_or_default();
        self.writer.write_field(count)?;
        Ok(self.writer.write_record(None::<&[u8]>)?)
    }
}

impl<W: Write> TableWriter for Csv<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for cell in cells {
            match cell {
                Cell::Null => self.writer.write_field("")?,
                Cell::Number(number) => self.writer.write_field(number.to_string())?,
                Cell::Bool(value) => self.writer.write_field(value.to_string())?,
                Cell::Text(text) => self.writer.write_field(text)?,
            }
        }
        self.writer.write_field("")?;
        Ok(self.writer.write_record(None::<&[u8]>)?)
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        let label = match gap.event {
            Some(event) => format!("gap:{}", event.name),
            None => "gap".to_owned(),
        };
        self.write_loss(gap.time_ns, &label, Some(gap.lost))
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        for entry in end.loss.entries() {
            let label = format!("loss:{}", entry.name);
            self.write_loss(end.time_ns, &label, entry.count)?;
        }
        self.writer.flush()
    }
}
