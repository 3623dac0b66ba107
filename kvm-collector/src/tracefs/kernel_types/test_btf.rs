//! Builds small BTF for tests.

use super::btf::kind;

/// BTF that is being built. `first_string` is 0 for a kernel image.
#[derive(Default)]
pub(super) struct TestBtf {
    types: Vec<u8>,
    strings: Vec<u8>,
    first_string: usize,
}

impl TestBtf {
    /// A module that follows a kernel image with this many bytes of strings.
    fn module(first_string: usize) -> Self {
        Self {
            first_string,
            ..Self::default()
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() && self.first_string == 0 {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let offset = self.first_string + self.strings.len();
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        u32::try_from(offset).unwrap()
    }

    /// Adds a type with the words that follow it. `entries` is the number of members or enumerators.
    fn add(&mut self, name: &str, kind: u32, entries: usize, size_or_type: u32, words: &[u32]) {
        let name = self.string(name);
        let flag = u32::from(matches!(kind, kind::STRUCT | kind::UNION)) << 31;
        let info = kind << 24 | flag | u32::try_from(entries).unwrap();
        for word in [name, info, size_or_type].iter().chain(words) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(super) fn add_typedef(&mut self, name: &str, id: u32) {
        self.add(name, kind::TYPEDEF, 0, id, &[]);
    }

    /// Adds an integer of 4 bytes.
    fn add_int(&mut self, name: &str, encoding: u32) {
        self.add(name, kind::INT, 0, 4, &[encoding << 24 | 32]);
    }

    /// Adds a struct or union. A member has a name, a type, its first bit, and the size of its bit
    /// field, or 0.
    pub(super) fn add_members(&mut self, name: &str, kind: u32, members: &[(&str, u32, u32, u32)]) {
        let mut words = Vec::new();
        for (name, id, first, bits) in members {
            words.extend([self.string(name), *id, bits << 24 | first]);
        }
        self.add(name, kind, members.len(), 4, &words);
    }

    fn add_enum(&mut self, values: &[(&str, i32)]) {
        let mut words = Vec::new();
        for (name, value) in values {
            words.extend([self.string(name), value.cast_unsigned()]);
        }
        self.add("", kind::ENUM, values.len(), 4, &words);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let mut data = vec![0x9f, 0xeb, 1, 0];
        let types = size(&self.types);
        for word in [24, 0, types, types, size(&self.strings)] {
            data.extend_from_slice(&word.to_le_bytes());
        }
        data.extend_from_slice(&self.types);
        data.extend_from_slice(&self.strings);
        data
    }
}

/// A kernel image: `u32` has the id 2, and there are 7 types.
pub(super) fn kernel_image() -> Vec<u8> {
    let mut btf = TestBtf::default();
    btf.add_int("unsigned int", 0);
    btf.add_typedef("u32", 1);
    btf.add_enum(&[("VDSO_CLOCKMODE_NONE", 0), ("VDSO_CLOCKMODE_TSC", 1)]);
    btf.add_int("int", 1);
    btf.add_members("numbers", kind::UNION, &[("signed", 4, 0, 3)]);
    let wide = [btf.string("WIDE"), 0, 1 << 8];
    btf.add("", kind::ENUM64, 1, 8, &wide);
    btf.add_enum(&[("MINUS_ONE", -1)]);
    btf.encode()
}

/// The module `kvm` of Linux 7.3, for a kernel image with `base.0` types and `base.1` bytes of strings.
pub(super) fn kvm_module(base: (usize, usize)) -> Vec<u8> {
    let mut btf = TestBtf::module(base.1);
    let bit_fields = [
        ("level", 1, 0, 4),
        ("has_4_byte_gpte", 1, 4, 1),
        ("quadrant", 1, 5, 2),
        ("direct", 1, 7, 1),
        ("access", 1, 8, 4),
        ("invalid", 1, 12, 1),
        ("efer_nx", 1, 13, 1),
        ("smm", 1, 24, 8),
    ];
    btf.add_members("", kind::STRUCT, &bit_fields);
    let bit_fields = u32::try_from(base.0 + 1).unwrap();
    let members = [("word", 2, 0, 0), ("", bit_fields, 0, 0)];
    btf.add_members("kvm_mmu_page_role", kind::UNION, &members);
    btf.encode()
}
