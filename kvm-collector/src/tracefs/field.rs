//! One field of a trace record: its C declaration, where it lies, and how to read it.

use super::print_fmt::{load, plain, size_of_integer};

/// A field of a trace record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name in the kernel's struct.
    pub name: String,
    /// The C type as the kernel writes it, an array's dimension included: `unsigned int`, `__u8[15]`, `char[]`.
    pub c_type: String,
    /// Where the field starts in the record, in bytes.
    pub offset: usize,
    /// How many bytes it takes.
    pub size: usize,
    /// Whether it is, or consists of, signed numbers.
    pub signed: bool,
    /// What it holds.
    pub kind: FieldKind,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A number of 1, 2, 4 or 8 bytes.
    Integer,
    /// A `bool`: 0 or 1.
    Bool,
    /// An address.
    Pointer,
    /// `len` numbers of `elem_size` bytes (1, 2, 4 or 8).
    Array {
        /// Bytes of one element.
        elem_size: u8,
        /// Number of elements.
        len: usize,
    },
    /// A `char` array of fixed size: text up to the first NUL.
    Chars,
    /// Where an array behind the fixed part lies (`__data_loc`).
    DataLoc {
        /// Bytes of one element of that array.
        elem_size: u8,
    },
    /// As [`FieldKind::DataLoc`], its place counted from the end of this field (`__rel_loc`).
    RelLoc {
        /// Bytes of one element of that array.
        elem_size: u8,
    },
    /// Bytes of no known meaning.
    Opaque,
}

/// No record is longer: a `__data_loc` has 16 bits for an offset.
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
        let (base, name, dimension) = declared(declaration).ok_or("no name")?;
        let kind = kind(base, dimension, size);
        let c_type = format!(
            "{}{}",
            base.trim_start_matches("__data_loc ")
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

    /// The number in this field, a signed one extended to 64 bits as C converts it. `None` if the record is too short
    /// or the field is no number.
    #[inline]
    pub fn read_u64(&self, record: &[u8]) -> Option<u64> {
        match self.kind {
            FieldKind::Integer | FieldKind::Bool | FieldKind::Pointer => {
                load(record, self.offset, self.size, self.signed)
            }
            _ => None,
        }
    }

    /// As [`Field::read_u64`], for signed fields.
    #[inline]
    pub fn read_i64(&self, record: &[u8]) -> Option<i64> {
        self.read_u64(record).map(u64::cast_signed)
    }

    /// Whether the field points to bytes behind the fixed part of the record.
    pub fn is_dynamic(&self) -> bool {
        matches!(
            self.kind,
            FieldKind::DataLoc { .. } | FieldKind::RelLoc { .. }
        )
    }

    /// The bytes of an array or text, wherever they lie; of any other field, its own bytes. `None` if the record is too short.
    pub fn bytes<'r>(&self, record: &'r [u8]) -> Option<&'r [u8]> {
        let (start, size) = match self.kind {
            FieldKind::DataLoc { .. } | FieldKind::RelLoc { .. } => {
                let word = usize::try_from(load(record, self.offset, 4, false)?).ok()?;
                let base = if matches!(self.kind, FieldKind::RelLoc { .. }) {
                    self.offset + 4
                } else {
                    0
                };
                (base + (word & 0xffff), word >> 16)
            }
            _ => (self.offset, self.size),
        };
        record.get(start..)?.get(..size)
    }

    /// Appends the value: text as it is, signed numbers in base 10, addresses and unsigned numbers of 8 bytes in base 16,
    /// other numbers in base 10, arrays as `{0x1,0x2}`.
    pub(super) fn print(&self, record: &[u8], out: &mut Vec<u8>) {
        if self.print_value(record, out).is_none() {
            out.extend_from_slice(plain::TRUNCATED);
        }
    }

    fn print_value(&self, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self.kind {
            FieldKind::Integer if self.signed => plain::signed(out, self.read_i64(record)?),
            FieldKind::Integer if self.size < 8 => plain::decimal(out, self.read_u64(record)?),
            FieldKind::Bool => plain::decimal(out, self.read_u64(record)?),
            FieldKind::Integer | FieldKind::Pointer => plain::hex(out, self.read_u64(record)?),
            FieldKind::Chars => out.extend_from_slice(plain::until_nul(self.bytes(record)?)),
            FieldKind::DataLoc { elem_size: 1 } | FieldKind::RelLoc { elem_size: 1 }
                if self.c_type == "char[]" =>
            {
                out.extend_from_slice(plain::until_nul(self.bytes(record)?));
            }
            FieldKind::DataLoc { elem_size }
            | FieldKind::RelLoc { elem_size }
            | FieldKind::Array { elem_size, .. } => {
                plain::array(out, self.bytes(record)?, elem_size);
            }
            FieldKind::Opaque => plain::array(out, self.bytes(record)?, 1),
        }
        Some(())
    }
}

/// Splits a declaration into type, name and, for an array, its dimension.
fn declared(declaration: &str) -> Option<(&str, &str, Option<&str>)> {
    let (declaration, dimension) = match declaration.find('[') {
        Some(at) if declaration.ends_with(']') => (&declaration[..at], Some(&declaration[at..])),
        _ => (declaration, None),
    };
    let declaration = declaration.trim_end();
    let start = declaration
        .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map_or(0, |at| at + 1);
    let (base, name) = declaration.split_at_checked(start)?;
    (!name.is_empty()).then_some((base.trim(), name, dimension))
}

fn kind(base: &str, dimension: Option<&str>, size: usize) -> FieldKind {
    let element = |base: &str| {
        let base = base.trim_end_matches("[]").trim();
        if base.ends_with('*') {
            Some(8)
        } else {
            size_of_integer(base)
        }
    };
    if let Some(base) = base.strip_prefix("__data_loc ") {
        return FieldKind::DataLoc {
            elem_size: element(base).unwrap_or(1),
        };
    }
    if let Some(base) = base.strip_prefix("__rel_loc ") {
        return FieldKind::RelLoc {
            elem_size: element(base).unwrap_or(1),
        };
    }
    match (dimension, size) {
        (Some(_), _) if base == "char" => FieldKind::Chars,
        (Some(dimension), _) => array(dimension, element(base), size),
        (None, 8) if base.ends_with('*') => FieldKind::Pointer,
        (None, 1) if base == "bool" || base == "_Bool" => FieldKind::Bool,
        (None, 1 | 2 | 4 | 8) => FieldKind::Integer,
        (None, _) => FieldKind::Opaque,
    }
}

/// The element's size is the type's, or, for a type unknown here, what the dimension makes of the array's size.
fn array(dimension: &str, element: Option<u8>, size: usize) -> FieldKind {
    let count = dimension
        .trim_matches(['[', ']'])
        .parse()
        .ok()
        .filter(|count| *count > 0);
    let shared = count
        .filter(|count| size.is_multiple_of(*count))
        .and_then(|count: usize| u8::try_from(size / count).ok());
    match element.or(shared) {
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
    fn declarations() {
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
    fn a_short_record_has_no_value() {
        let field = Field::parse("field:s32 x;\toffset:2;\tsize:4;\tsigned:1;").expect("a field");
        assert_eq!(field.read_i64(&[0, 0, 0xff, 0xff, 0xff, 0xff]), Some(-1));
        assert_eq!(field.read_i64(&[0, 0, 0xff, 0xff, 0xff]), None);
        assert_eq!(field.read_i64(&[]), None);
    }
}
