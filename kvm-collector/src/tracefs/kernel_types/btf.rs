//! Reads BTF, the kernel's description of its types (Linux: Documentation/bpf/btf.rst).
//!
//! Bad input is never an error: what cannot be read is not found.

use super::BitRange;

const MAGIC: u16 = 0xeb9f;

/// Size of `struct btf_type` without what follows it.
const TYPE_BYTES: usize = 12;

/// Kinds of types.
pub(super) mod kind {
    pub(in crate::tracefs::kernel_types) const INT: u32 = 1;
    pub(in crate::tracefs::kernel_types) const ARRAY: u32 = 3;
    pub(in crate::tracefs::kernel_types) const STRUCT: u32 = 4;
    pub(in crate::tracefs::kernel_types) const UNION: u32 = 5;
    pub(in crate::tracefs::kernel_types) const ENUM: u32 = 6;
    pub(in crate::tracefs::kernel_types) const TYPEDEF: u32 = 8;
    pub(in crate::tracefs::kernel_types) const VOLATILE: u32 = 9;
    pub(in crate::tracefs::kernel_types) const CONST: u32 = 10;
    pub(in crate::tracefs::kernel_types) const FUNC_PROTO: u32 = 13;
    pub(in crate::tracefs::kernel_types) const VAR: u32 = 14;
    pub(in crate::tracefs::kernel_types) const DATASEC: u32 = 15;
    pub(in crate::tracefs::kernel_types) const DECL_TAG: u32 = 17;
    pub(in crate::tracefs::kernel_types) const TYPE_TAG: u32 = 18;
    pub(in crate::tracefs::kernel_types) const ENUM64: u32 = 19;
    /// The last kind that this reader knows.
    pub(in crate::tracefs::kernel_types) const LAST: u32 = ENUM64;
}

/// The bits in the encoding of an INT that mean that it is signed, or that it is a bool.
const INT_SIGNED_OR_BOOL: u32 = 1 | 4;

/// The maximum depth of anonymous structs and unions, and of typedefs.
const MAX_DEPTH: u8 = 16;

/// The maximum number of members of a type, with those of anonymous structs and unions in it.
const MAX_MEMBERS: u32 = 10_000;

/// The types of a kernel image or of a module.
#[derive(Debug)]
pub(super) struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// The offset of each type in `types`.
    offsets: Vec<u32>,
    /// The id of the first type, and the offset of the first string. A module continues the ids and
    /// offsets of the kernel image.
    first: (usize, usize),
}

/// A type: `struct btf_type`, and what follows it.
#[derive(Clone, Copy)]
struct Type<'b> {
    bytes: &'b [u8],
}

/// Finds types in the BTF of a kernel image and of one of its modules.
#[derive(Clone, Copy, Debug)]
pub(super) struct BtfView<'b> {
    base: &'b Btf,
    module: Option<&'b Btf>,
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
            first,
        };
        btf.offsets = btf.find_offsets()?;
        Some(btf)
    }

    /// Finds the offset of each type. `None` if there is a type of an unknown kind, because its size is
    /// not known.
    fn find_offsets(&self) -> Option<Vec<u32>> {
        let (mut offsets, mut position) = (Vec::new(), 0);
        while position < self.types.len() {
            offsets.push(u32::try_from(position).ok()?);
            position += Type::at(self, position)?.bytes.len();
        }
        Some(offsets)
    }

    /// Returns the number of types, and of the bytes of all strings.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.offsets.len(), self.strings.len())
    }

    fn types(&self) -> impl Iterator<Item = Type<'_>> {
        let offsets = self.offsets.iter();
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

    fn kind(self) -> Option<u32> {
        // Later kernels may use the two bits that are reserved in earlier ones.
        Some(self.info()? >> 24 & 0x7f)
    }

    fn entry_count(self) -> Option<usize> {
        usize::try_from(self.info()? & 0x00ff_ffff).ok()
    }

    /// Returns whether members have the size of their bit field, or whether enumerators are signed.
    fn has_kind_flag(self) -> Option<bool> {
        Some(self.info()? >> 31 != 0)
    }

    /// Returns the entries that follow a struct, union or enum: `size` bytes each.
    fn entries(self, size: usize) -> impl Iterator<Item = &'b [u8]> {
        let entries = self.bytes.get(TYPE_BYTES..).unwrap_or_default();
        entries.chunks_exact(size)
    }
}

impl<'b> BtfView<'b> {
    pub(super) fn new(base: &'b Btf, module: Option<&'b Btf>) -> Self {
        Self { base, module }
    }

    /// Returns the types that only this module has, or all of the kernel image.
    fn own_types(self) -> impl Iterator<Item = Type<'b>> {
        self.module.unwrap_or(self.base).types()
    }

    fn type_by_id(self, id: usize) -> Option<Type<'b>> {
        let mut files = self.module.into_iter().chain([self.base]);
        files.find_map(|btf| {
            let index = id.checked_sub(btf.first.0)?;
            Type::at(btf, usize::try_from(*btf.offsets.get(index)?).ok()?)
        })
    }

    /// Returns the string at an offset that `of` refers to.
    fn string(self, offset: usize) -> Option<&'b [u8]> {
        let mut files = self.module.into_iter().chain([self.base]);
        let (btf, start) = files.find_map(|btf| Some((btf, offset.checked_sub(btf.first.1)?)))?;
        let rest = btf.strings.get(start..)?;
        rest.split(|it| *it == 0).next()
    }

    fn has_name(self, bytes: &[u8], name: &str) -> bool {
        let found = number(bytes, 0).and_then(|it| self.string(it));
        found.is_some_and(|it| it == name.as_bytes())
    }

    /// Returns the bits of a member in each definition of this type, or `None` for a definition that
    /// does not have the member. `type_name` includes the keyword.
    pub(super) fn member_bits(self, type_name: &str, member: &str) -> Vec<Option<BitRange>> {
        let (kind, name) = match type_name.split_once(' ') {
            Some(("union", name)) => (kind::UNION, name),
            Some(("struct", name)) => (kind::STRUCT, name),
            _ => return Vec::new(),
        };
        let definitions = self
            .own_types()
            .filter(|it| it.kind() == Some(kind) && self.has_name(it.bytes, name));
        definitions
            .map(|it| self.find_member(it, member, 0, MAX_DEPTH, &mut MAX_MEMBERS.clone()))
            .collect()
    }

    /// Finds a member of a struct or union, and of the anonymous ones in it. `start` is the first bit of
    /// the struct or union. Reads at most `budget` members.
    fn find_member(
        self,
        container: Type<'b>,
        name: &str,
        start: u32,
        depth: u8,
        budget: &mut u32,
    ) -> Option<BitRange> {
        let depth = depth.checked_sub(1)?;
        for entry in container.entries(12) {
            *budget = budget.checked_sub(1)?;
            let position = u32_at(entry, 8)?;
            let (field_bits, offset) = match container.has_kind_flag()? {
                true => (position >> 24, position & 0x00ff_ffff),
                false => (0, position),
            };
            let first = start.checked_add(offset)?;
            let member_type = self.resolve(number(entry, 4)?)?;
            let is_container = matches!(member_type.kind(), Some(kind::STRUCT | kind::UNION));
            if is_container && self.has_name(entry, "") {
                if let Some(found) = self.find_member(member_type, name, first, depth, budget) {
                    return Some(found);
                }
            } else if self.has_name(entry, name) {
                let type_bits = unsigned_bits(member_type)?;
                let count = if field_bits == 0 {
                    type_bits
                } else {
                    field_bits
                };
                return BitRange::new(u16::try_from(first).ok()?, u8::try_from(count).ok()?);
            }
        }
        None
    }

    /// Returns the type that typedefs and qualifiers refer to.
    fn resolve(self, id: usize) -> Option<Type<'b>> {
        let mut found = self.type_by_id(id)?;
        for _ in 0..MAX_DEPTH {
            match found.kind()? {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::TYPE_TAG => {
                    found = self.type_by_id(number(found.bytes, 8)?)?;
                }
                _ => return Some(found),
            }
        }
        None
    }

    /// Returns the value of each enumerator with this name.
    pub(super) fn enumerators(self, name: &str) -> Vec<i64> {
        let mut values = Vec::new();
        for found in self.own_types() {
            let size = match found.kind() {
                Some(kind::ENUM) => 8,
                Some(kind::ENUM64) => 12,
                _ => continue,
            };
            let entries = found.entries(size).filter(|it| self.has_name(it, name));
            values.extend(entries.filter_map(enumerator_value));
        }
        values
    }
}

/// Returns the value of an entry of an ENUM (8 bytes) or ENUM64. Print formats use no unsigned values
/// above 2^31 of an ENUM, so its entries are read as signed.
fn enumerator_value(entry: &[u8]) -> Option<i64> {
    let low = u32_at(entry, 4)?;
    Some(match u32_at(entry, 8) {
        Some(high) => (u64::from(high) << 32 | u64::from(low)).cast_signed(),
        None => i64::from(low.cast_signed()),
    })
}

/// Returns the number of bits of an unsigned integer or a bool. `None` for another type.
fn unsigned_bits(found: Type<'_>) -> Option<u32> {
    match found.kind()? {
        kind::INT => {
            let encoding = u32_at(found.bytes, TYPE_BYTES)?;
            let is_unsigned = encoding >> 24 & INT_SIGNED_OR_BOOL != 1;
            is_unsigned.then_some(encoding & 0xff)
        }
        _ => None,
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn number(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, offset)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::test_btf::{self, TestBtf};
    use super::*;

    fn bits(first: u16, count: u8) -> Option<BitRange> {
        BitRange::new(first, count)
    }

    #[test]
    fn members_of_a_split_btf_are_found() {
        let base = Btf::parse(&test_btf::kernel_image()).unwrap();
        let data = test_btf::kvm_module(base.sizes());
        let module = Btf::parse_module(&data, &base).unwrap();
        let view = BtfView::new(&base, Some(&module));
        let found = |member| view.member_bits("union kvm_mmu_page_role", member);
        assert_eq!(found("word"), [bits(0, 32)]);
        assert_eq!(found("level"), [bits(0, 4)]);
        assert_eq!(found("access"), [bits(8, 4)]);
        assert_eq!(found("smm"), [bits(24, 8)]);
        assert_eq!(found("other"), [None]);
        assert!(
            view.member_bits("struct kvm_mmu_page_role", "word")
                .is_empty()
        );
        assert!(view.member_bits("kvm_mmu_page_role", "word").is_empty());
    }

    #[test]
    fn signed_members_are_not_known() {
        let base = Btf::parse(&test_btf::kernel_image()).unwrap();
        let found = BtfView::new(&base, None).member_bits("union numbers", "signed");
        assert_eq!(found, [None]);
    }

    #[test]
    fn enumerators_are_found() {
        let base = Btf::parse(&test_btf::kernel_image()).unwrap();
        let view = BtfView::new(&base, None);
        assert_eq!(view.enumerators("VDSO_CLOCKMODE_TSC"), [1]);
        assert_eq!(view.enumerators("MINUS_ONE"), [-1]);
        assert_eq!(view.enumerators("WIDE"), [1 << 40]);
        assert!(view.enumerators("NOTHING").is_empty());
    }

    #[test]
    fn malformed_data_is_no_panic() {
        let image = test_btf::kernel_image();
        for length in 0..image.len() {
            assert!(Btf::parse(&image[..length]).is_none(), "{length}");
        }
        let base = Btf::parse(&image).unwrap();
        let module = test_btf::kvm_module(base.sizes());
        for position in 0..module.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut data = module.clone();
                data[position] = value;
                if let Some(module) = Btf::parse_module(&data, &base) {
                    let view = BtfView::new(&base, Some(&module));
                    let _ = view.member_bits("union kvm_mmu_page_role", "smm");
                    let _ = view.enumerators("A");
                }
            }
        }
    }

    #[test]
    fn types_that_refer_to_themselves_end() {
        let mut btf = TestBtf::default();
        // A typedef of itself, and an anonymous union that contains itself.
        btf.add_typedef("x", 1);
        btf.add_members("", kind::UNION, &[("", 2, 0, 0)]);
        btf.add_members("loop", kind::UNION, &[("", 2, 0, 0), ("x", 1, 0, 0)]);
        let base = Btf::parse(&btf.encode()).unwrap();
        let found = BtfView::new(&base, None).member_bits("union loop", "x");
        assert_eq!(found, [None]);
    }
}
