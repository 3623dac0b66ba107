//! Looks up members and enumerators in BTF.

use super::{
    btf::{Btf, TYPE_BYTES, Type, kind, number, u32_at},
    types::BitRange,
};

/// The bits in the encoding of an INT that mean that it is signed, or that it is a bool.
const INT_SIGNED_OR_BOOL: u32 = 1 | 4;

/// The maximum depth of anonymous structs and unions, and of typedefs.
const MAX_DEPTH: u8 = 16;

/// The maximum number of members of a type, with those of anonymous structs and unions in it.
const MAX_MEMBERS: u32 = 10_000;

/// Finds types in the BTF of a kernel image and of one of its modules.
#[derive(Clone, Copy, Debug)]
pub(super) struct BtfView<'b> {
    base: &'b Btf,
    module: Option<&'b Btf>,
}

impl<'b> BtfView<'b> {
    pub(super) fn new(base: &'b Btf, module: Option<&'b Btf>) -> Self {
        Self { base, module }
    }

    /// Returns the structs, unions and enums that only this module has, or all of the kernel image.
    fn own_types(self) -> impl Iterator<Item = Type<'b>> {
        self.module.unwrap_or(self.base).searched_types()
    }

    fn type_by_id(self, id: usize) -> Option<Type<'b>> {
        let mut files = self.module.into_iter().chain([self.base]);
        files.find_map(|btf| btf.type_by_id(id))
    }

    /// Returns whether the name of a type, member or enumerator is `name`.
    fn has_name(self, bytes: &[u8], name: &str) -> bool {
        let Some(offset) = number(bytes, 0) else {
            return false;
        };
        let mut files = self.module.into_iter().chain([self.base]);
        let text = files.find_map(|btf| btf.strings_from(offset));
        let rest = text.and_then(|it| it.strip_prefix(name.as_bytes()));
        rest.is_some_and(|it| it.first() == Some(&0))
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
