//! What a recording says of the machine it was made on.

use std::{fs, path::Path};

use super::line;

/// The machine, in the words perf uses for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub hostname: String,
    /// As `uname -r`.
    pub release: String,
    /// As `uname -m`.
    pub arch: String,
    /// CPUs that there are, and those of them that are online.
    pub cpus: (u32, u32),
    /// The CPU's model.
    pub cpu_desc: Option<String>,
    /// The CPU as perf writes it, which is how `perf kvm stat report` tells AMD from Intel: `AuthenticAMD,25,17,1`.
    pub cpu_id: Option<String>,
    /// Memory in KiB.
    pub memory_kib: u64,
}

/// Looks at the machine at `root`; its names are those of the running kernel.
#[must_use]
pub fn read(root: &Path) -> Machine {
    let uname = rustix::system::uname();
    let text = |it: &std::ffi::CStr| it.to_string_lossy().into_owned();
    let cpuinfo = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let of_cpu = |name: &str| value(&cpuinfo, name);
    let cpus = |file: &str| {
        line(root.join("sys/devices/system/cpu").join(file)).map_or(0, |it| count(&it))
    };
    let midr = || line(root.join("sys/devices/system/cpu/cpu0/regs/identification/midr_el1"));
    let x86_id = || {
        Some(format!(
            "{},{},{},{}",
            of_cpu("vendor_id")?,
            of_cpu("cpu family")?,
            of_cpu("model")?,
            of_cpu("stepping")?
        ))
    };
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    Machine {
        hostname: text(uname.nodename()),
        release: text(uname.release()),
        arch: text(uname.machine()),
        cpus: (cpus("present"), cpus("online")),
        cpu_desc: of_cpu("model name").map(str::to_owned),
        cpu_id: x86_id().or_else(midr),
        memory_kib: value(&meminfo, "MemTotal")
            .and_then(|it| it.split(' ').next()?.parse().ok())
            .unwrap_or(0),
    }
}

/// The value in the first line `name : value`.
fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

/// How many numbers are in a list such as `0-3,8`.
fn count(list: &str) -> u32 {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        to.checked_sub(from)?.checked_add(1)
    };
    list.split(',').filter_map(range).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn reads_what_perf_would_say() {
        let tree = Tree::new();
        tree.file(
            "proc/cpuinfo",
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n\
             model name\t: AMD EPYC\nstepping\t: 1\n\nprocessor\t: 1\n",
        );
        tree.file("proc/meminfo", "MemTotal:       24684096 kB\n");
        tree.file("sys/devices/system/cpu/present", "0-3,8\n");
        tree.file("sys/devices/system/cpu/online", "0\n");
        let machine = read(tree.path());
        assert_eq!(machine.cpu_id.as_deref(), Some("AuthenticAMD,25,17,1"));
        assert_eq!(machine.cpu_desc.as_deref(), Some("AMD EPYC"));
        assert_eq!(machine.cpus, (5, 1));
        assert_eq!(machine.memory_kib, 24_684_096);
    }

    #[test]
    fn an_empty_machine_has_no_cpu_id() {
        assert_eq!(read(Tree::new().path()).cpu_id, None);
    }
}
