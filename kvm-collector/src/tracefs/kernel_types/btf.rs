//! Reads BTF, the kernel's description of its types (Linux: Documentation/bpf/btf.rst).
//!
//! Bad input is never an error: what cannot be read is not found.

const MAGIC: u16 = 0xeb9f;

/// Size of `struct btf_type` without what follows it.
pub(super) const TYPE_BYTES: usize = 12;

/// Kinds of types.
pub(super) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const FUNC_PROTO: u32 = 13;
    pub(crate) const VAR: u32 = 14;
    pub(crate) const DATASEC: u32 = 15;
    pub(crate) const DECL_TAG: u32 = 17;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
    /// The kinds that are looked up by name.
    pub(crate) const SEARCHED: [u32; 4] = [STRUCT, UNION, ENUM, ENUM64];
    /// The last kind that this reader knows.
    pub(crate) const LAST: u32 = ENUM64;
}

/// The types of a kernel image or of a module.
#[derive(Debug)]
pub(super) struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// The offset of each type in `types`.
    offsets: Vec<u32>,
    /// The offsets of structs, unions and enums: only these are looked up by name.
    searched: Vec<u32>,
    /// The id of the first type, and the offset of the first string. A module continues the ids and
    /// offsets of the kernel image.
    first: (usize, usize),
}

/// A type: `struct btf_type`, and what follows it.
#[derive(Clone, Copy)]
pub(super) struct Type<'b> {
    pub(super) bytes: &'b [u8],
}

impl Btf {
    /// Reads the BTF of a kernel image. `None` if it is malformed.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        // Type 0 is void, and has no entry.
        Self::parse_from(data, (1, 0))
    }

    /// Reads the BTF of a module, which refers to the types of the kernel image.
    pub(super) fn parse_module(data: &[u8], base: &Self) -> Option<Self> {
        let (types, string_bytes) = base.sizes();
        Self::parse_from(data, (base.first.0 + types, base.first.1 + string_bytes))
    }

    fn parse_from(data: &[u8], first: (usize, usize)) -> Option<Self> {
        // The position of bit fields differs on big-endian machines, which the collector does not support.
        if u16::from_le_bytes(*data.first_chunk()?) != MAGIC || cfg!(target_endian = "big") {
            return None;
        }
        let header_bytes = number(data, 4)?;
        let section = |position: usize| {
            let (offset, size) = (number(data, position)?, number(data, position + 4)?);
            let start = header_bytes.checked_add(offset)?;
            data.get(start..start.checked_add(size)?)
                .map(<[u8]>::to_vec)
        };
        let mut btf = Self {
            types: section(8)?,
            strings: section(16)?,
            offsets: Vec::new(),
            searched: Vec::new(),
            first,
        };
        (btf.offsets, btf.searched) = btf.find_offsets()?;
        Some(btf)
    }

    /// Finds the offset of each type, and of those that are looked up by name. `None` if there is a type
    /// of an unknown kind, because its size is not known.
    fn find_offsets(&self) -> Option<(Vec<u32>, Vec<u32>)> {
        let (mut offsets, mut searched, mut position) = (Vec::new(), Vec::new(), 0);
        while position < self.types.len() {
            let offset = u32::try_from(position).ok()?;
            let found = Type::at(self, position)?;
            offsets.push(offset);
            if kind::SEARCHED.contains(&found.kind()?) {
                searched.push(offset);
            }
            position += found.bytes.len();
        }
        Some((offsets, searched))
    }

    /// Returns the number of types, and of the bytes of all strings.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.offsets.len(), self.strings.len())
    }

    /// Returns the type with this id. `None` if this BTF does not have it.
    pub(super) fn type_by_id(&self, id: usize) -> Option<Type<'_>> {
        let offset = self.offsets.get(id.checked_sub(self.first.0)?)?;
        Type::at(self, usize::try_from(*offset).ok()?)
    }

    /// Returns what starts with the string at this offset. `None` if it is before the strings of this
    /// BTF.
    pub(super) fn strings_from(&self, offset: usize) -> Option<&[u8]> {
        let start = offset.checked_sub(self.first.1)?;
        Some(self.strings.get(start..).unwrap_or_default())
    }

    /// Returns the structs, unions and enums.
    pub(super) fn searched_types(&self) -> impl Iterator<Item = Type<'_>> {
        let offsets = self.searched.iter();
        offsets.filter_map(|it| Type::at(self, usize::try_from(*it).ok()?))
    }
}

impl<'b> Type<'b> {
    fn at(btf: &'b Btf, position: usize) -> Option<Self> {
        let bytes = btf.types.get(position..)?;
        let this = Self { bytes };
        let entries = this.entry_count()?;
        let following = match this.kind()? {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * entries,
            kind::ENUM | kind::FUNC_PROTO => 8 * entries,
            1..=kind::LAST => 0,
            _ => return None,
        };
        let bytes = bytes.get(..TYPE_BYTES + following)?;
        Some(Self { bytes })
    }

    fn info(self) -> Option<u32> {
        u32_at(self.bytes, 4)
    }

    pub(super) fn kind(self) -> Option<u32> {
        // Later kernels may use the two bits that are reserved in earlier ones.
        Some(self.info()? >> 24 & 0x7f)
    }

    fn entry_count(self) -> Option<usize> {
        usize::try_from(self.info()? & 0x00ff_ffff).ok()
    }

    /// Returns whether members have the size of their bit field, or whether enumerators are signed.
    pub(super) fn has_kind_flag(self) -> Option<bool> {
        Some(self.info()? >> 31 != 0)
    }

    /// Returns the entries that follow a struct, union or enum: `size` bytes each.
    pub(super) fn entries(self, size: usize) -> impl Iterator<Item = &'b [u8]> {
        let entries = self.bytes.get(TYPE_BYTES..).unwrap_or_default();
        entries.chunks_exact(size)
    }
}

/// Reads a number.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// Reads a number that is an id, an offset or a size.
pub(super) fn number(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, offset)?).ok()
}
