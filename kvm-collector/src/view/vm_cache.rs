//! Names of VMs for streams of events, without a lookup and an allocation per event.

use std::collections::HashMap;

use crate::model::{VmName, capacity::MAX_KNOWN_TASKS};

/// The names of VMs that were found, by process.
#[derive(Debug)]
pub struct VmCache {
    vms: HashMap<u32, NamedVm>,
    unknown: NamedVm,
}

/// A VM, with its UUID as text.
#[derive(Debug)]
pub struct NamedVm {
    /// Name and UUID.
    pub name: VmName,
    /// The UUID as text, if it is known.
    pub uuid_text: Option<String>,
}

impl From<VmName> for NamedVm {
    fn from(name: VmName) -> Self {
        let uuid_text = name.uuid.map(|uuid| uuid.to_string());
        Self { name, uuid_text }
    }
}

impl Default for VmCache {
    fn default() -> Self {
        Self {
            vms: HashMap::new(),
            unknown: VmName::unknown().into(),
        }
    }
}

impl VmCache {
    /// Returns the VM of a process. `name` returns its name; if that is unknown, it is called again for the next event,
    /// because the name may become known later.
    pub fn find(&mut self, tgid: u32, name: impl FnOnce(u32) -> Option<VmName>) -> &NamedVm {
        if !self.vms.contains_key(&tgid) {
            let Some(name) = name(tgid) else {
                return &self.unknown;
            };
            if self.vms.len() >= MAX_KNOWN_TASKS {
                self.vms.clear();
            }
            self.vms.insert(tgid, name.into());
        }
        self.vms.get(&tgid).unwrap_or(&self.unknown)
    }

    /// Removes a process if this thread, which has ended, was its main thread: the kernel may reuse its number.
    pub fn remove_thread(&mut self, tid: u32) {
        self.vms.remove(&tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_until_it_is_known_and_again_for_another_process() {
        let mut cache = VmCache::default();
        let mut find = |name: Option<&str>| {
            let found = cache.find(7, |_| name.map(VmName::from));
            found.name.name.clone()
        };
        assert_eq!(find(None), "?");
        assert_eq!(find(Some("web-1")), "web-1");
        assert_eq!(find(None), "web-1");
        cache.remove_thread(8);
        assert_eq!(cache.find(7, |_| None).name.name, "web-1");
        cache.remove_thread(7);
        assert_eq!(cache.find(7, |_| Some("db-1".into())).name.name, "db-1");
    }
}
