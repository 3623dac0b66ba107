//! Looks up names that print formats take from the kernel's headers, and remembers what was found.

use super::{Compiler, constants, known_layouts};
use crate::tracefs::kernel_types::BitRange;

impl Compiler<'_> {
    /// Returns the value of a macro or enumerator for which the kernel does not put the value into the
    /// format file (it has no `TRACE_DEFINE_ENUM` for it).
    pub(super) fn constant(&mut self, name: &str) -> Result<i64, String> {
        if let Some(value) = constants::constant(name) {
            return Ok(value);
        }
        let value = self.types.enumerator(name);
        let value =
            value.ok_or_else(|| format!("uses {name}, whose value in this kernel is not known"))?;
        self.used_types.add_enumerator(name, value);
        Ok(value)
    }

    /// Returns where `member` of a union is within `assigned`, another member of it.
    pub(super) fn bits_within(
        &mut self,
        union: &str,
        assigned: &str,
        member: &str,
    ) -> Result<BitRange, String> {
        let unknown = || format!("uses {union}.{member}, whose layout in this kernel is not known");
        let (outer, inner) = if let Some(outer) = self.types.member_bits(union, assigned) {
            let inner = self.types.member_bits(union, member).ok_or_else(unknown)?;
            self.used_types.add_member(union, assigned, outer);
            self.used_types.add_member(union, member, inner);
            (outer, inner)
        } else {
            let known = |member| known_layouts::member_bits(union, member, &self.locals);
            known(assigned).zip(known(member)).ok_or_else(unknown)?
        };
        inner.within(outer).ok_or_else(unknown)
    }
}
