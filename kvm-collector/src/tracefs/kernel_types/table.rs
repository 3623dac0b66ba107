//! A table of kernel types, which a recording stores.

use std::{collections::BTreeMap, fmt::Write as _};

use super::types::{BitRange, KernelTypes};

/// The maximum number of entries. The formats of all KVM events need about 50.
const MAX_ENTRIES: usize = 4096;

/// The maximum length of a name in bytes. The kernel's identifiers are below 128.
const MAX_NAME_BYTES: usize = 256;

/// The members and enumerators that the formats of a recording use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelTypeTable {
    /// Type and member.
    members: BTreeMap<(String, String), BitRange>,
    enumerators: BTreeMap<String, i64>,
}

impl KernelTypeTable {
    /// Whether the table has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.enumerators.is_empty()
    }

    /// Adds a member of a type. `type_name` includes the keyword.
    pub fn add_member(&mut self, type_name: &str, member: &str, bits: BitRange) {
        if self.can_add(&[type_name, member]) {
            let key = (type_name.to_owned(), member.to_owned());
            self.members.insert(key, bits);
        }
    }

    /// Adds an enumerator.
    pub fn add_enumerator(&mut self, name: &str, value: i64) {
        if self.can_add(&[name]) {
            self.enumerators.insert(name.to_owned(), value);
        }
    }

    /// Adds the entries of another table of the same kernel.
    pub fn merge(&mut self, other: &Self) {
        for ((type_name, member), bits) in &other.members {
            self.add_member(type_name, member, *bits);
        }
        for (name, value) in &other.enumerators {
            self.add_enumerator(name, *value);
        }
    }

    fn can_add(&self, names: &[&str]) -> bool {
        let is_valid = |name: &&str| {
            let is_long = name.len() > MAX_NAME_BYTES;
            !name.is_empty() && !is_long && !name.contains(['\t', '\n'])
        };
        self.members.len() + self.enumerators.len() < MAX_ENTRIES && names.iter().all(is_valid)
    }

    /// Returns the table as text. A line is `bits TYPE MEMBER FIRST COUNT` or `enumerator NAME VALUE`,
    /// separated by tabs.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for ((type_name, member), bits) in &self.members {
            let (first, count) = (bits.first(), bits.count());
            let _ = writeln!(text, "bits\t{type_name}\t{member}\t{first}\t{count}");
        }
        for (name, value) in &self.enumerators {
            let _ = writeln!(text, "enumerator\t{name}\t{value}");
        }
        text
    }

    /// Reads the text of [`KernelTypeTable::to_text`]. Ignores lines that are malformed or of an unknown kind.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["bits", type_name, member, first, count] => {
                    let range = first.parse().ok().zip(count.parse().ok());
                    if let Some(bits) = range.and_then(|it| BitRange::new(it.0, it.1)) {
                        table.add_member(type_name, member, bits);
                    }
                }
                ["enumerator", name, value] => {
                    if let Ok(value) = value.parse() {
                        table.add_enumerator(name, value);
                    }
                }
                _ => {}
            }
        }
        table
    }
}

impl KernelTypes for KernelTypeTable {
    fn member_bits(&self, type_name: &str, member: &str) -> Option<BitRange> {
        let key = (type_name.to_owned(), member.to_owned());
        self.members.get(&key).copied()
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        self.enumerators.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_back_from_its_text() {
        let mut table = KernelTypeTable::default();
        table.add_member("union role", "level", BitRange::new(0, 4).unwrap());
        table.add_member("union role", "word", BitRange::new(0, 32).unwrap());
        table.add_enumerator("MODE_NONE", -1);
        let text = table.to_text();
        assert_eq!(
            text,
            "bits\tunion role\tlevel\t0\t4\nbits\tunion role\tword\t0\t32\nenumerator\tMODE_NONE\t-1\n"
        );
        assert_eq!(KernelTypeTable::from_text(&text), table);
    }

    #[test]
    fn malformed_lines_are_ignored() {
        let text = "bits\tunion a\tb\t0\t65\nbits\tunion a\tb\t65535\t8\nbits\tunion a\tb\t-1\t8\nbits\n\
                    enumerator\tA\tx\nenumerator\t\t1\nother\tA\t1\nenumerator\tB\t2\textra\nenumerator\tC\t3";
        let table = KernelTypeTable::from_text(text);
        assert_eq!(table.to_text(), "enumerator\tC\t3\n");
    }

    #[test]
    fn the_number_of_entries_is_limited() {
        let lines = (0..10_000).map(|it| format!("enumerator\tA{it}\t1\n"));
        let table = KernelTypeTable::from_text(&lines.collect::<String>());
        assert_eq!(table.enumerators.len(), MAX_ENTRIES);
    }
}
