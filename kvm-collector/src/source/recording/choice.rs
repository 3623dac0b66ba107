//! Which events of a recording are chosen, and where they say what they are chosen by.

use crate::{
    recording::Attr,
    tracefs::{Field, Format, ReasonNames},
};

/// What is wanted of the events of an attr.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// The slot among the events chosen.
    pub(super) slot: Option<usize>,
    /// Where they say the vCPU.
    pub(super) vcpu: Option<Field>,
    /// Where they say the reason, if they are exits.
    pub(super) reason: Option<Field>,
    pub(super) is_exit: bool,
    pub(super) is_entry: bool,
}

impl Choice {
    /// Of an attr, given the formats of all events and of those that are chosen.
    pub(super) fn of(attr: &Attr, formats: &[Format], chosen: &[Format]) -> Self {
        let is_this = |format: &&Format| Some(u64::from(format.id)) == attr.tracepoint;
        let slot = chosen.iter().position(|it| is_this(&it));
        let Some(format) = formats.iter().find(is_this) else {
            return Self {
                slot,
                ..Self::default()
            };
        };
        let is = |name: &str| format.is("kvm", name);
        let reason = || {
            let (_, reason) = ReasonNames::fields(Some(format));
            format.field(reason).cloned()
        };
        Self {
            slot,
            vcpu: format.field("vcpu_id").cloned(),
            reason: is("kvm_exit").then(reason).flatten(),
            is_exit: is("kvm_exit"),
            is_entry: is("kvm_entry"),
        }
    }
}
