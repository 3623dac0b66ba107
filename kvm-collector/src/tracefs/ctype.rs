//! C's integer types on 64-bit Linux (LP64), their conversions, and how type names are spelled.

/// An integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CType {
    /// Size in bytes: 1, 2, 4 or 8.
    pub(super) size: u8,
    pub(super) signed: bool,
}

impl CType {
    pub(super) const U8: CType = CType::new(1, false);
    pub(super) const I32: CType = CType::new(4, true);
    pub(super) const U32: CType = CType::new(4, false);
    pub(super) const I64: CType = CType::new(8, true);
    pub(super) const U64: CType = CType::new(8, false);

    pub(super) const fn new(size: u8, signed: bool) -> CType {
        CType { size, signed }
    }

    /// Width in bits.
    pub(super) const fn bits(self) -> u32 {
        self.size as u32 * 8
    }

    /// Truncates `value` to this type, then sign-extends or zero-extends it to 64 bits. All values
    /// are stored in this form.
    #[inline]
    pub(super) const fn wrap(self, value: u64) -> u64 {
        let unused = 64 - self.bits();
        if self.signed {
            ((value << unused).cast_signed() >> unused).cast_unsigned()
        } else {
            (value << unused) >> unused
        }
    }

    /// Applies integer promotion: types narrower than `int` become `int`.
    pub(super) const fn promoted(self) -> CType {
        if self.size < 4 { CType::I32 } else { self }
    }

    /// Returns the type to which a binary operator converts both operands (C's usual arithmetic
    /// conversions).
    pub(super) const fn common_type(self, other: CType) -> CType {
        let (a, b) = (self.promoted(), other.promoted());
        if a.size == b.size {
            CType::new(a.size, a.signed && b.signed)
        } else if a.size > b.size {
            a
        } else {
            b
        }
    }

    /// Returns the type of an integer literal: the first type in C's list that can hold the value.
    /// `unsigned` and `long` say whether the literal has a `u` or an `l` suffix.
    pub(super) const fn for_literal(
        value: u64,
        decimal: bool,
        unsigned: bool,
        long: bool,
    ) -> CType {
        let (fits_i32, fits_u32) = (value <= i32::MAX as u64, value <= u32::MAX as u64);
        let may_be_unsigned = unsigned || !decimal;
        if !long && !unsigned && fits_i32 {
            CType::I32
        } else if !long && may_be_unsigned && fits_u32 {
            CType::U32
        } else if !unsigned && value <= i64::MAX as u64 {
            CType::I64
        } else {
            CType::U64
        }
    }
}

/// The type in a cast, a declaration or `sizeof`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TypeName {
    Int(CType),
    Bool,
    /// A pointer to integers of this type. `None` if the pointed-to type is not an integer, such as
    /// `void` or a struct.
    Pointer(Option<CType>),
    /// `struct x`, `union x`, `enum x`, or an unknown name.
    Other(String),
}

/// Looks up a kernel typedef that means the same on every 64-bit architecture.
pub(super) fn from_typedef(name: &str) -> Option<CType> {
    Some(match name {
        "u8" | "__u8" | "uint8_t" | "u_int8_t" | "uchar" => CType::U8,
        "s8" | "__s8" | "int8_t" => CType::new(1, true),
        "u16" | "__u16" | "uint16_t" | "__le16" | "__be16" | "ushort" | "umode_t" => {
            CType::new(2, false)
        }
        "s16" | "__s16" | "int16_t" => CType::new(2, true),
        "u32" | "__u32" | "uint32_t" | "__le32" | "__be32" | "uint" | "dev_t" | "gfp_t" => {
            CType::U32
        }
        "s32" | "__s32" | "int32_t" | "pid_t" => CType::I32,
        "u64" | "__u64" | "uint64_t" | "__le64" | "__be64" | "ulong" | "size_t" | "uintptr_t" => {
            CType::U64
        }
        "gfn_t" | "gpa_t" | "gva_t" | "hva_t" | "hpa_t" | "hfn_t" | "kvm_pfn_t" => CType::U64,
        "phys_addr_t" | "dma_addr_t" | "resource_size_t" | "sector_t" | "pgoff_t" | "ino_t" => {
            CType::U64
        }
        "s64" | "__s64" | "int64_t" | "ssize_t" | "loff_t" | "ktime_t" | "intptr_t" => CType::I64,
        _ => return None,
    })
}

/// Whether `name` is a C keyword that can occur in a type name.
pub(super) fn is_type_keyword(name: &str) -> bool {
    let keywords = [
        "char", "short", "int", "long", "unsigned", "signed", "void", "_Bool", "bool", "const",
        "volatile", "static", "struct", "union", "enum",
    ];
    keywords.contains(&name)
}

/// Returns the integer type that a sequence of type specifiers names, such as `unsigned long long`.
/// `None` if it is not an integer type.
pub(super) fn from_specifiers<'a>(words: impl Iterator<Item = &'a str>) -> Option<CType> {
    let (mut size, mut unsigned, mut signed, mut known) = (4, false, None, false);
    for word in words {
        known = true;
        match word {
            "const" | "volatile" | "static" => {}
            "int" => {}
            "unsigned" => unsigned = true,
            "signed" => signed = Some(true),
            // Linux is built with -funsigned-char since 6.2. Before, plain `char` was signed on x86,
            // but print formats use it only for strings, where the sign does not matter.
            "char" => (size, signed) = (1, signed.or(Some(false))),
            "short" => size = 2,
            "long" => size = 8,
            name => {
                let alias = from_typedef(name)?;
                (size, unsigned) = (alias.size, !alias.signed);
            }
        }
    }
    known.then(|| CType::new(size, !unsigned && signed != Some(false)))
}

/// Returns the size in bytes of the integer type with this name, or `None` if it is not one.
pub(super) fn int_type_size(name: &str) -> Option<u8> {
    if name == "bool" {
        return Some(1);
    }
    from_specifiers(name.split_whitespace()).map(|ctype| ctype.size)
}
