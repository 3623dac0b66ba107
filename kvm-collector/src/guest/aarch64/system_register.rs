//! Encodings of system registers.

/// A system register, as instructions and KVM encode it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemRegister {
    op0: u32,
    op1: u32,
    crn: u32,
    crm: u32,
    op2: u32,
}

impl SystemRegister {
    /// Identification register. KVM emulates all reads of these registers.
    pub(super) const ID_AA64PFR0_EL1: Self = Self::new(3, 0, 0, 4, 0);
    pub(super) const CNTVCT_EL0: Self = Self::new(3, 3, 14, 0, 2);
    pub(super) const CNTV_CTL_EL0: Self = Self::new(3, 3, 14, 3, 1);
    pub(super) const CNTV_CVAL_EL0: Self = Self::new(3, 3, 14, 3, 2);
    pub(super) const ICC_PMR_EL1: Self = Self::new(3, 0, 4, 6, 0);
    pub(super) const ICC_IAR1_EL1: Self = Self::new(3, 0, 12, 12, 0);
    pub(super) const ICC_EOIR1_EL1: Self = Self::new(3, 0, 12, 12, 1);
    pub(super) const ICC_IGRPEN1_EL1: Self = Self::new(3, 0, 12, 12, 7);

    const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self {
            op0,
            op1,
            crn,
            crm,
            op2,
        }
    }

    /// Returns bits 19 to 5 of the instructions `mrs` and `msr`.
    pub(super) const fn operand(self) -> u32 {
        (self.op0 & 1) << 19 | self.op1 << 16 | self.crn << 12 | self.crm << 8 | self.op2 << 5
    }

    /// Returns the number by which the attributes of a GIC identify the register.
    pub(super) fn gic_attribute(self) -> u64 {
        u64::from(self.op0 << 14 | self.op1 << 11 | self.crn << 7 | self.crm << 3 | self.op2)
    }
}
