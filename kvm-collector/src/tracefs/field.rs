//! A field of a trace record: parses its declaration, and reads and prints its value.

use super::{
    ctype::{CType, int_type_size},
    number::{append_array, append_decimal, append_hex, append_signed},
    record::{ArrayLocation, ValueError, read_int, until_nul},
};

/// A field of a trace record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name in the format file.
    pub name: String,
    /// The C type, with the dimension of an array: `unsigned int`, `__u8[15]`, `char[]`.
    pub c_type: String,
    /// Offset in the record, in bytes.
    pub offset: usize,
    /// Size in the record, in bytes.
    pub size: usize,
    /// Whether the number, or each number of the array, is signed.
    pub signed: bool,
    /// What kind of value the field has.
    pub kind: FieldKind,
}

/// The kind of value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A number of 1, 2, 4 or 8 bytes.
    Integer,
    /// A `bool`: 0 or 1.
    Bool,
    /// A pointer.
    Pointer,
    /// An array of numbers.
    Array {
        /// Size of an element in bytes: 1, 2, 4 or 8.
        elem_size: u8,
        /// Number of elements.
        len: usize,
    },
    /// A `char` array of fixed size, which holds text up to the first NUL.
    Chars,
    /// The location of an array after the record's fixed part (`__data_loc`).
    DataLoc {
        /// Size of an element in bytes.
        elem_size: u8,
    },
    /// As [`FieldKind::DataLoc`], with an offset from the end of this field (`__rel_loc`).
    RelLoc {
        /// Size of an element in bytes.
        elem_size: u8,
    },
    /// Bytes of an unknown type, such as a struct.
    Opaque,
}

/// The maximum size of a record in bytes: `__data_loc` has 16 bits for an offset.
const MAX_RECORD: usize = 1 << 16;

impl Field {
    /// Parses a line such as `field:unsigned int foo; offset:8; size:4; signed:0;`.
    pub(super) fn parse(line: &str) -> Result<Field, &'static str> {
        let mut parts = line.split(';').map(str::trim);
        let declaration = parts
            .next()
            .and_then(|part| part.strip_prefix("field:"))
            .ok_or("no declaration")?;
        let (mut offset, mut size, mut signed) = (None, None, false);
        for part in parts {
            match part.split_once(':') {
                Some(("offset", value)) => offset = value.parse().ok(),
                Some(("size", value)) => size = value.parse().ok(),
                Some(("signed", value)) => signed = value != "0",
                _ => {}
            }
        }
        let offset: usize = offset.ok_or("no offset")?;
        let size: usize = size.ok_or("no size")?;
        if offset > MAX_RECORD || size > MAX_RECORD {
            return Err("lies outside any record");
        }
        let (type_name, name, dimension) = split_declaration(declaration).ok_or("no name")?;
        let kind = field_kind(type_name, dimension, size);
        let c_type = format!(
            "{}{}",
            type_name
                .trim_start_matches("__data_loc ")
                .trim_start_matches("__rel_loc "),
            dimension.unwrap_or("")
        );
        Ok(Field {
            name: name.to_owned(),
            c_type,
            offset,
            size,
            signed,
            kind,
        })
    }

    /// Reads the number, and sign-extends it to 64 bits if it is signed. `None` if the record is too
    /// short or the field is not a number.
    #[inline]
    pub fn read_u64(&self, record: &[u8]) -> Option<u64> {
        match self.kind {
            FieldKind::Integer | FieldKind::Bool | FieldKind::Pointer => {
                let size = u8::try_from(self.size)
                    .ok()
                    .filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
                read_int(record, self.offset, CType::new(size, self.signed)).ok()
            }
            _ => None,
        }
    }

    /// Reads the number like [`Field::read_u64`], as a signed integer.
    #[inline]
    pub fn read_i64(&self, record: &[u8]) -> Option<i64> {
        self.read_u64(record).map(u64::cast_signed)
    }

    /// Whether the field locates an array after the fixed part of the record.
    pub fn is_dynamic(&self) -> bool {
        matches!(
            self.kind,
            FieldKind::DataLoc { .. } | FieldKind::RelLoc { .. }
        )
    }

    /// Returns the bytes of the array if the field locates one (`__data_loc`, `__rel_loc`), otherwise
    /// the bytes of the field. `None` if the record is too short.
    pub fn bytes<'r>(&self, record: &'r [u8]) -> Option<&'r [u8]> {
        let location = match self.kind {
            FieldKind::DataLoc { .. } => ArrayLocation::Dynamic {
                word_offset: self.offset,
                relative: false,
            },
            FieldKind::RelLoc { .. } => ArrayLocation::Dynamic {
                word_offset: self.offset,
                relative: true,
            },
            _ => ArrayLocation::Fixed {
                offset: self.offset,
                size: self.size,
            },
        };
        location.bytes(record).ok()
    }

    /// Appends the value: text unchanged, arrays as `{0x1,0x2}`, pointers and unsigned 64-bit numbers
    /// in base 16, other numbers in base 10.
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        if self.print_value(record, out).is_none() {
            out.extend_from_slice(ValueError::Truncated.text());
        }
    }

    fn print_value(&self, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self.kind {
            FieldKind::Integer if self.signed => append_signed(out, self.read_i64(record)?),
            FieldKind::Integer if self.size < 8 => append_decimal(out, self.read_u64(record)?),
            FieldKind::Bool => append_decimal(out, self.read_u64(record)?),
            FieldKind::Integer | FieldKind::Pointer => append_hex(out, self.read_u64(record)?),
            FieldKind::Chars => out.extend_from_slice(until_nul(self.bytes(record)?)),
            FieldKind::DataLoc { elem_size: 1 } | FieldKind::RelLoc { elem_size: 1 }
                if self.c_type == "char[]" =>
            {
                out.extend_from_slice(until_nul(self.bytes(record)?));
            }
            FieldKind::DataLoc { elem_size }
            | FieldKind::RelLoc { elem_size }
            | FieldKind::Array { elem_size, .. } => {
                append_array(out, self.bytes(record)?, elem_size);
            }
            FieldKind::Opaque => append_array(out, self.bytes(record)?, 1),
        }
        Some(())
    }
}

/// Splits a declaration into type, name and, for an array, its dimension.
fn split_declaration(declaration: &str) -> Option<(&str, &str, Option<&str>)> {
    let (declaration, dimension) = match declaration.find('[') {
        Some(start) if declaration.ends_with(']') => {
            (&declaration[..start], Some(&declaration[start..]))
        }
        _ => (declaration, None),
    };
    let declaration = declaration.trim_end();
    let start = declaration
        .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map_or(0, |before_name| before_name + 1);
    let (type_name, name) = declaration.split_at_checked(start)?;
    (!name.is_empty()).then_some((type_name.trim(), name, dimension))
}

/// `size` is the size of the field in bytes.
fn field_kind(type_name: &str, dimension: Option<&str>, size: usize) -> FieldKind {
    let elem_size = |type_name: &str| {
        let type_name = type_name.trim_end_matches("[]").trim();
        if type_name.ends_with('*') {
            Some(8)
        } else {
            int_type_size(type_name)
        }
    };
    if let Some(array_type) = type_name.strip_prefix("__data_loc ") {
        return FieldKind::DataLoc {
            elem_size: elem_size(array_type).unwrap_or(1),
        };
    }
    if let Some(array_type) = type_name.strip_prefix("__rel_loc ") {
        return FieldKind::RelLoc {
            elem_size: elem_size(array_type).unwrap_or(1),
        };
    }
    match (dimension, size) {
        (Some(_), _) if type_name == "char" => FieldKind::Chars,
        (Some(dimension), _) => array_kind(dimension, elem_size(type_name), size),
        (None, 8) if type_name.ends_with('*') => FieldKind::Pointer,
        (None, 1) if type_name == "bool" || type_name == "_Bool" => FieldKind::Bool,
        (None, 1 | 2 | 4 | 8) => FieldKind::Integer,
        (None, _) => FieldKind::Opaque,
    }
}

/// If the size of the element type is unknown, it is the array's size divided by its dimension.
fn array_kind(dimension: &str, elem_type_size: Option<u8>, size: usize) -> FieldKind {
    let count = dimension
        .trim_matches(['[', ']'])
        .parse()
        .ok()
        .filter(|count| *count > 0);
    let computed_elem_size = count
        .filter(|count| size.is_multiple_of(*count))
        .and_then(|count: usize| u8::try_from(size / count).ok());
    match elem_type_size.or(computed_elem_size) {
        Some(elem_size @ (1 | 2 | 4 | 8)) => FieldKind::Array {
            elem_size,
            len: size / usize::from(elem_size),
        },
        _ => FieldKind::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(declaration: &str, size: usize) -> Option<(String, FieldKind)> {
        let line = format!("field:{declaration};\toffset:8;\tsize:{size};\tsigned:0;");
        Field::parse(&line)
            .ok()
            .map(|field| (field.name, field.kind))
    }

    #[test]
    fn declarations_determine_names_and_kinds() {
        let cases = [
            ("unsigned int foo", 4, "foo", FieldKind::Integer),
            ("bool b", 1, "b", FieldKind::Bool),
            ("u64 * sptep", 8, "sptep", FieldKind::Pointer),
            ("void *const p", 8, "p", FieldKind::Integer),
            (
                "__u8 insn[15]",
                15,
                "insn",
                FieldKind::Array {
                    elem_size: 1,
                    len: 15,
                },
            ),
            (
                "unsigned long args[6]",
                48,
                "args",
                FieldKind::Array {
                    elem_size: 8,
                    len: 6,
                },
            ),
            (
                "foo_t x[4]",
                16,
                "x",
                FieldKind::Array {
                    elem_size: 4,
                    len: 4,
                },
            ),
            ("char comm[16]", 16, "comm", FieldKind::Chars),
            (
                "__data_loc char[] msg",
                4,
                "msg",
                FieldKind::DataLoc { elem_size: 1 },
            ),
            (
                "__rel_loc u32[] ids",
                4,
                "ids",
                FieldKind::RelLoc { elem_size: 4 },
            ),
            ("struct foo bar", 24, "bar", FieldKind::Opaque),
        ];
        for (declaration, size, name, kind) in cases {
            assert_eq!(
                kind_of(declaration, size),
                Some((name.to_owned(), kind)),
                "{declaration}"
            );
        }
    }

    #[test]
    fn fields_of_short_records_have_no_value() {
        let field = Field::parse("field:s32 x;\toffset:2;\tsize:4;\tsigned:1;").expect("a field");
        assert_eq!(field.read_i64(&[0, 0, 0xff, 0xff, 0xff, 0xff]), Some(-1));
        assert_eq!(field.read_i64(&[0, 0, 0xff, 0xff, 0xff]), None);
        assert_eq!(field.read_i64(&[]), None);
    }
}
