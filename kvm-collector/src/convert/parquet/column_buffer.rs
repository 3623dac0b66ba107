//! The values of a column of a row group, in memory.

use parquet::{
    data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type},
    errors::ParquetError,
    file::writer::SerializedColumnWriter,
};

use crate::convert::table::{Cell, Column, ColumnType};

/// The values of a column in the current row group.
#[derive(Debug)]
pub(super) struct ColumnBuffer {
    is_nullable: bool,
    values: Values,
    /// For a nullable column: 1 for each row with a value, 0 for each row without.
    definition_levels: Vec<i16>,
}

#[derive(Debug)]
enum Values {
    U32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<ByteArray>),
}

impl ColumnBuffer {
    /// Creates the buffer of a column.
    pub(super) fn new(&(_, column_type, is_nullable): &Column) -> Self {
        Self {
            is_nullable,
            values: match column_type {
                ColumnType::U32 => Values::U32(Vec::new()),
                ColumnType::U64 | ColumnType::I64 | ColumnType::Hex | ColumnType::WallTime => {
                    Values::I64(Vec::new())
                }
                ColumnType::Bool => Values::Bool(Vec::new()),
                ColumnType::Text | ColumnType::Json => Values::Text(Vec::new()),
            },
            definition_levels: Vec::new(),
        }
    }

    /// Returns the rows in the order of their values. `None` if they have it already, or if the values are not
    /// signed numbers.
    pub(super) fn sorted_rows(&self) -> Option<Vec<usize>> {
        let Values::I64(values) = &self.values else {
            return None;
        };
        if self.is_nullable || values.is_sorted() {
            return None;
        }
        let mut rows: Vec<_> = (0..values.len()).collect();
        rows.sort_by_key(|row| values[*row]);
        Some(rows)
    }

    /// Puts the rows into another order.
    pub(super) fn reorder(&mut self, rows: &[usize]) {
        let mut values: Vec<_> = rows.to_vec();
        if self.is_nullable {
            // There are values only for rows that have one.
            let mut next = 0;
            let index_of = self.definition_levels.iter().map(|level| {
                let index = next;
                next += usize::from(*level == 1);
                index
            });
            let index_of: Vec<_> = index_of.collect();
            let has_value = |row: &&usize| self.definition_levels[**row] == 1;
            values = rows
                .iter()
                .filter(has_value)
                .map(|row| index_of[*row])
                .collect();
            let levels = rows.iter().map(|row| self.definition_levels[*row]);
            self.definition_levels = levels.collect();
        }
        match &mut self.values {
            Values::U32(all) => select(all, &values),
            Values::I64(all) => select(all, &values),
            Values::Bool(all) => select(all, &values),
            Values::Text(all) => select(all, &values),
        }
    }

    /// Appends a value. Returns the number of bytes of text that were added.
    #[expect(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        reason = "Parquet stores unsigned numbers with the same bits as signed ones"
    )]
    pub(super) fn push(&mut self, cell: &Cell<'_>) -> usize {
        let mut bytes = 0;
        let has_value = *cell != Cell::Null || !self.is_nullable;
        if self.is_nullable {
            self.definition_levels.push(i16::from(has_value));
        }
        if !has_value {
            return 0;
        }
        let number = match cell {
            Cell::Number(number) => *number,
            Cell::Hex(number) => number.0,
            Cell::Time(time) => time.ns,
            _ => 0,
        };
        match &mut self.values {
            Values::U32(values) => values.push(number as i32),
            Values::I64(values) => values.push(number as i64),
            Values::Bool(values) => values.push(*cell == Cell::Bool(true)),
            Values::Text(values) => {
                let text = match cell {
                    Cell::Text(text) | Cell::Json(text) => *text,
                    _ => "",
                };
                // If the text is the same as in the row before, share its memory.
                match values.last() {
                    Some(last) if last.data() == text.as_bytes() => values.push(last.clone()),
                    _ => {
                        bytes = text.len();
                        values.push(text.into());
                    }
                }
            }
        }
        bytes
    }

    /// Writes all values, and removes them.
    pub(super) fn write(
        &mut self,
        writer: &mut SerializedColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        let levels = self.is_nullable.then_some(&self.definition_levels[..]);
        match &mut self.values {
            Values::U32(values) => {
                writer
                    .typed::<Int32Type>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::I64(values) => {
                writer
                    .typed::<Int64Type>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Bool(values) => {
                writer
                    .typed::<BoolType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Text(values) => {
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
        }
        self.definition_levels.clear();
        Ok(())
    }
}

/// Replaces values by those with these indexes.
fn select<T: Clone>(values: &mut Vec<T>, indexes: &[usize]) {
    *values = indexes.iter().map(|index| values[*index].clone()).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_reordered_with_their_nulls() {
        let mut times = ColumnBuffer::new(&("time_ns", ColumnType::I64, false));
        let mut texts = ColumnBuffer::new(&("cause", ColumnType::Text, true));
        for (time_ns, text) in [(3, Some("c")), (1, None), (4, None), (2, Some("b"))] {
            times.push(&Cell::Number(time_ns));
            texts.push(&text.map_or(Cell::Null, Cell::Text));
        }
        let rows = times.sorted_rows().unwrap();
        assert_eq!(rows, [1, 3, 0, 2]);
        times.reorder(&rows);
        texts.reorder(&rows);
        assert!(times.sorted_rows().is_none());
        assert_eq!(texts.definition_levels, [0, 1, 1, 0]);
        let Values::Text(values) = texts.values else {
            panic!("text");
        };
        let values: Vec<_> = values.iter().map(|it| it.as_utf8().unwrap()).collect();
        assert_eq!(values, ["b", "c"]);
    }
}
