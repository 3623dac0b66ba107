//! Description of the host for the header of a recording.

use std::path::Path;

use super::files::read_line;
use crate::bounds::read_system_file;

/// Description of a host with the fields of a perf.data header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Host name.
    pub hostname: String,
    /// Id of the boot, which is unique.
    pub boot_id: Option<String>,
    /// Kernel release, as `uname -r` prints it.
    pub release: String,
    /// Architecture, as `uname -m` prints it.
    pub arch: String,
    /// Number of present CPUs and of online CPUs.
    pub cpus: (u32, u32),
    /// Model name of the CPU.
    pub cpu_desc: Option<String>,
    /// CPU id in perf's format, for example `AuthenticAMD,25,17,1`. `perf kvm stat report` distinguishes
    /// AMD and Intel by it.
    pub cpu_id: Option<String>,
    /// Total memory in KiB.
    pub memory_kib: u64,
}

/// Reads the description of the host below `root`. Host name, release and architecture come from the
/// running kernel.
#[must_use]
pub fn read(root: &Path) -> Machine {
    let uname = rustix::system::uname();
    let cpuinfo = read_system_file(root.join("proc/cpuinfo")).unwrap_or_default();
    let cpu_field = |name: &str| value(&cpuinfo, name);
    let cpus = |file: &str| {
        read_line(root.join("sys/devices/system/cpu").join(file)).map_or(0, |it| count(&it))
    };
    let midr = || read_line(root.join("sys/devices/system/cpu/cpu0/regs/identification/midr_el1"));
    let x86_id = || {
        Some(format!(
            "{},{},{},{}",
            cpu_field("vendor_id")?,
            cpu_field("cpu family")?,
            cpu_field("model")?,
            cpu_field("stepping")?
        ))
    };
    let meminfo = read_system_file(root.join("proc/meminfo")).unwrap_or_default();
    Machine {
        hostname: hostname(),
        boot_id: boot_id(root),
        release: release(),
        arch: uname.machine().to_string_lossy().into_owned(),
        cpus: (cpus("present"), cpus("online")),
        cpu_desc: cpu_field("model name").map(str::to_owned),
        cpu_id: x86_id().or_else(midr),
        memory_kib: value(&meminfo, "MemTotal")
            .and_then(|it| it.split(' ').next()?.parse().ok())
            .unwrap_or(0),
    }
}

/// Returns the name of this host.
#[must_use]
pub fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Returns the release of the running kernel, as `uname -r` prints it.
#[must_use]
pub fn release() -> String {
    let uname = rustix::system::uname();
    uname.release().to_string_lossy().into_owned()
}

/// Returns the id of the boot of the host below `root`. It is unique, so it distinguishes hosts with the same name.
#[must_use]
pub fn boot_id(root: &Path) -> Option<String> {
    read_line(root.join("proc/sys/kernel/random/boot_id"))
}

/// Value in the first line `name : value`.
fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

/// Count of the numbers in a list such as `0-3,8`.
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
    use crate::host::fake::FakeRoot;

    #[test]
    fn the_fields_of_perf_are_read() {
        let tree = FakeRoot::new();
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
    fn the_cpu_id_is_none_without_cpuinfo() {
        assert_eq!(read(FakeRoot::new().path()).cpu_id, None);
    }
}
