//! C's integer types on LP64, and the conversions C applies to them.

/// An integer type: its size in bytes (1, 2, 4 or 8) and its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CType {
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

    /// Reduces `value` to this type, then widens it to 64 bits as its sign says: the form in which every value is kept.
    #[inline]
    pub(super) const fn wrap(self, value: u64) -> u64 {
        let unused = 64 - self.bits();
        if self.signed {
            ((value << unused).cast_signed() >> unused).cast_unsigned()
        } else {
            (value << unused) >> unused
        }
    }

    /// Integer promotion: what is narrower than `int` becomes `int`.
    pub(super) const fn promoted(self) -> CType {
        if self.size < 4 { CType::I32 } else { self }
    }

    /// The usual arithmetic conversions of a binary operator.
    pub(super) const fn common(self, other: CType) -> CType {
        let (a, b) = (self.promoted(), other.promoted());
        if a.size == b.size {
            CType::new(a.size, a.signed && b.signed)
        } else if a.size > b.size {
            a
        } else {
            b
        }
    }

    /// The type of an integer literal: the first of C's list that holds it.
    pub(super) const fn of_literal(value: u64, decimal: bool, unsigned: bool, long: bool) -> CType {
        let (int, uint) = (value <= i32::MAX as u64, value <= u32::MAX as u64);
        let may_be_unsigned = unsigned || !decimal;
        if !long && !unsigned && int {
            CType::I32
        } else if !long && may_be_unsigned && uint {
            CType::U32
        } else if !unsigned && value <= i64::MAX as u64 {
            CType::I64
        } else {
            CType::U64
        }
    }
}

/// A type name: what a cast converts to and a declaration declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TypeName {
    Int(CType),
    Bool,
    /// A pointer to integers of this type (`None`: to something without a size here, such as `void` or a struct).
    Pointer(Option<CType>),
    /// `struct x`, `union x`, or a name this table does not have.
    Other(String),
}

/// Kernel typedefs with one meaning on every 64-bit architecture.
pub(super) fn typedef(name: &str) -> Option<CType> {
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

/// Whether `name` is one of the words C types are spelled with.
pub(super) fn is_keyword(name: &str) -> bool {
    let words = [
        "char", "short", "int", "long", "unsigned", "signed", "void", "_Bool", "bool", "const",
        "volatile", "static", "struct", "union", "enum",
    ];
    words.contains(&name)
}

/// The type that a row of specifiers spells (`unsigned`, `long`, `long`); `None` when it is no integer type.
pub(super) fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Option<CType> {
    let (mut size, mut unsigned, mut signed, mut known) = (4, false, None, false);
    for word in words {
        known = true;
        match word {
            "const" | "volatile" | "static" => {}
            "int" => {}
            "unsigned" => unsigned = true,
            "signed" => signed = Some(true),
            // The kernel is built with -funsigned-char since 6.2; only the elements of strings are plain char.
            "char" => (size, signed) = (1, signed.or(Some(false))),
            "short" => size = 2,
            "long" => size = 8,
            name => {
                let alias = typedef(name)?;
                (size, unsigned) = (alias.size, !alias.signed);
            }
        }
    }
    known.then(|| CType::new(size, !unsigned && signed != Some(false)))
}
