//! CSV: a line for each row, and lines for what is missing.

use std::io::{self, Write};

use super::{Cell, Columns, End, Gap, rows::Table};

/// Of what is missing.
const LOST: &str = "lost";

/// Writes CSV.
#[derive(Debug)]
pub struct Csv<W: Write> {
    columns: Columns,
    writer: csv::Writer<W>,
}

impl<W: Write> Csv<W> {
    /// Begins with the names of the columns.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(columns: Columns, out: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        let names = columns.all().map(|it| it.0).chain([LOST]);
        writer.write_record(names)?;
        Ok(Self { columns, writer })
    }

    /// A line that says how many are missing, in the column that says of others what they are.
    fn missing(&mut self, time_ns: u64, what: &str, count: Option<u64>) -> io::Result<()> {
        for (name, ..) in self.columns.all() {
            if name == "time_ns" {
                self.writer.write_field(time_ns.to_string())?;
            } else if name == self.columns.what() {
                self.writer.write_field(what)?;
            } else {
                self.writer.write_field("")?;
            }
        }
        let count = count.map(|it| it.to_string()).unwrap_or_default();
        self.writer.write_field(count)?;
        Ok(self.writer.write_record(None::<&[u8]>)?)
    }
}

impl<W: Write> Table for Csv<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for cell in cells {
            match cell {
                Cell::None => self.writer.write_field("")?,
                Cell::Number(number) => self.writer.write_field(number.to_string())?,
                Cell::Flag(flag) => self.writer.write_field(flag.to_string())?,
                Cell::Text(text) => self.writer.write_field(text)?,
            }
        }
        self.writer.write_field("")?;
        Ok(self.writer.write_record(None::<&[u8]>)?)
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        let what = match gap.event {
            Some(event) => format!("gap:{}", event.name),
            None => "gap".to_owned(),
        };
        self.missing(gap.time_ns, &what, Some(gap.lost))
    }

    fn finish(&mut self, end: &End<'_>) -> io::Result<()> {
        for entry in end.loss.entries() {
            let kind = format!("loss:{}", entry.name);
            self.missing(end.time_ns, &kind, entry.count)?;
        }
        self.writer.flush()
    }
}
