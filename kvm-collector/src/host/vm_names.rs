//! VM names, read while the VM lives and kept after it has ended.

use std::{collections::HashMap, path::Path};

use super::vm;

/// Names of VMs by process.
#[derive(Debug, Default)]
pub struct VmNames {
    known: HashMap<u32, String>,
}

impl VmNames {
    /// Learns the names of processes not seen before.
    pub fn learn(&mut self, tgids: impl IntoIterator<Item = u32>) {
        for tgid in tgids {
            if !self.known.contains_key(&tgid)
                && let Some(name) = vm::name_of(Path::new("/proc"), tgid)
            {
                self.known.insert(tgid, name);
            }
        }
    }

    /// Learns a name that was read elsewhere, unless the process has one already.
    pub fn learn_name(&mut self, tgid: u32, name: String) {
        self.known.entry(tgid).or_insert(name);
    }

    /// Forgets a process that has ended.
    pub fn forget(&mut self, tgid: u32) {
        self.known.remove(&tgid);
    }

    /// A line for each: its process, a tab, its name.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut lines: Vec<_> = self.known.iter().collect();
        lines.sort();
        lines
            .iter()
            .map(|(tgid, name)| format!("{tgid}\t{}\n", name.replace(['\n', '\t'], " ")))
            .collect()
    }

    /// Names from such lines; others are passed over.
    #[must_use]
    pub fn from_lines(text: &str) -> Self {
        let line = |line: &str| {
            let (tgid, name) = line.split_once('\t')?;
            Some((tgid.parse().ok()?, name.to_owned()))
        };
        Self {
            known: text.lines().filter_map(line).collect(),
        }
    }

    /// The name, if it is known.
    #[must_use]
    pub fn known(&self, tgid: u32) -> Option<&str> {
        self.known.get(&tgid).map(String::as_str)
    }

    /// The name, or `?` for a process that ended before it could be asked. 0 stands for the VMs that ended
    /// so long ago that they are not told apart any more.
    #[must_use]
    pub fn get(&self, tgid: u32) -> &str {
        if tgid == 0 {
            return "VMs that ended earlier";
        }
        self.known.get(&tgid).map_or("?", String::as_str)
    }
}
