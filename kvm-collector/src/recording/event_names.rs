//! The names of the recorded events, for messages about recordings without events of KVM.

use super::{
    abi::{SOFTWARE_DUMMY, TYPE_SOFTWARE, u32_at},
    attr::EventAttr,
    strings::read_string,
};
use crate::bounds::join_first;

/// Maximum number of events that a message names.
const MAX_NAMES: usize = 5;

/// Decodes the names in the feature EVENT_DESC. It has the number of events and the size of an attribute; then of
/// each event its attribute, the number of its ids, its name and its ids. If it is damaged, returns the names before
/// that.
pub(super) fn decode(content: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut read = || -> Option<()> {
        let attr_bytes = size(content, 4)?;
        let mut rest = content.get(8..)?;
        for _ in 0..u32_at(content, 0)? {
            rest = rest.get(attr_bytes..)?;
            let id_bytes = size(rest, 0)?.checked_mul(8)?;
            rest = rest.get(4..)?;
            let name_bytes = size(rest, 0)?;
            names.push(read_string(rest)?);
            rest = rest.get(4_usize.checked_add(name_bytes)?.checked_add(id_bytes)?..)?;
        }
        Some(())
    };
    let _ = read();
    names
}

fn size(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, offset)?).ok()
}

/// Lists the recorded events: by name if all names are known, else by the numbers in their attributes.
pub(super) fn list(attrs: &[EventAttr], names: &[String]) -> String {
    let has_names = names.len() == attrs.len();
    let name = |(index, attr): (usize, &EventAttr)| match names.get(index) {
        Some(name) if has_names => name.clone(),
        _ => format!("type {} config {:#x}", attr.event_type, attr.config),
    };
    let is_real = |(_, attr): &(usize, &EventAttr)| {
        (attr.event_type, attr.config) != (TYPE_SOFTWARE, SOFTWARE_DUMMY)
    };
    let real = attrs.iter().enumerate().filter(is_real);
    join_first(real.map(name), MAX_NAMES)
}
