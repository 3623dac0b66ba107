//! Name of a VM, from its process's command line or else its cgroup; and its UUID, from the command line.

use std::path::Path;

use super::{
    files::{numbered_entries, read_line},
    vm_identity::{VmName, VmUuid},
};
use crate::bounds::read_bounded;

/// Maximum size of a command line. The kernel limits arguments to a quarter of the stack, at most 6 MiB
/// (execve(2)), but a process can move its own.
const MAX_CMDLINE_BYTES: u64 = 8 << 20;

/// Reads the name and the UUID of the VM that the process at this directory of `/proc` runs. A VM without a name
/// is named by `default_name`.
pub(super) fn read(process: &Path, default_name: impl FnOnce() -> String) -> VmName {
    let cmdline = cmdline(process).unwrap_or_default();
    let argv: Vec<_> = cmdline
        .split(|&byte| byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    let argv: Vec<_> = argv.iter().map(AsRef::as_ref).collect();
    let name = in_argv(&argv).or_else(|| in_cgroup(&read_line(process.join("cgroup"))?));
    VmName {
        name: name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(default_name),
        uuid: uuid_in_argv(&argv),
    }
}

/// Reads the command line of a process; from another thread if the main thread has ended and so has
/// none any more.
fn cmdline(process: &Path) -> Option<Vec<u8>> {
    let read = |task: &Path| read_bounded(&task.join("cmdline"), MAX_CMDLINE_BYTES);
    let main = read(process).ok()?;
    if !main.is_empty() {
        return Some(main);
    }
    let others = numbered_entries(&process.join("task")).unwrap_or_default();
    let mut others = others.iter().filter_map(|(_, task)| read(task).ok());
    Some(others.find(|it| !it.is_empty()).unwrap_or(main))
}

/// Returns the name and the UUID of the VM that a command runs, if it is a VMM: a name in its arguments, or else the
/// name of the program with the process id.
pub(super) fn of_command(command: &[String], pid: u32) -> Option<VmName> {
    let argv: Vec<_> = command.iter().map(String::as_str).collect();
    let program = argv.first()?.rsplit('/').next()?;
    let name = in_argv(&argv).filter(|name| !name.is_empty());
    Some(VmName {
        name: name.unwrap_or_else(|| format!("{program}-{pid}")),
        uuid: uuid_in_argv(&argv),
    })
}

/// Name in a VMM's arguments: `-name` of QEMU; `--name` of crosvm, kvmtool and the built-in guest;
/// `--id` of Firecracker.
fn in_argv(argv: &[&str]) -> Option<String> {
    if let Some(value) = option(argv, "-name") {
        return Some(in_qemu_option(value));
    }
    if let Some(value) = option(argv, "--name") {
        // QEMU accepts two dashes as well.
        let program = argv.first()?.rsplit('/').next()?;
        return Some(if program.starts_with("qemu") {
            in_qemu_option(value)
        } else {
            value.to_owned()
        });
    }
    option(argv, "--id").map(str::to_owned)
}

/// UUID in a VMM's arguments: `-uuid` and `-smbios type=1,uuid=` of QEMU, `--smbios uuid=` of crosvm,
/// `--platform uuid=` of Cloud Hypervisor; `--id` of Firecracker if it is a UUID.
fn uuid_in_argv(argv: &[&str]) -> Option<VmUuid> {
    let whole = |name| options(argv, name).find_map(VmUuid::parse);
    let part = |name| options(argv, name).find_map(uuid_in_parts);
    whole("-uuid")
        .or_else(|| whole("--uuid"))
        .or_else(|| part("-smbios"))
        .or_else(|| part("--smbios"))
        .or_else(|| part("--platform"))
        .or_else(|| whole("--id"))
}

/// UUID in `type=1,uuid=UUID`. Other types of SMBIOS tables do not describe the VM.
fn uuid_in_parts(value: &str) -> Option<VmUuid> {
    let of_vm = |part: &str| part.strip_prefix("type=").is_none_or(|it| it == "1");
    if !value.split(',').all(of_vm) {
        return None;
    }
    let mut parts = value.split(',');
    parts.find_map(|part| VmUuid::parse(part.strip_prefix("uuid=")?))
}

/// First value of an option.
fn option<'a>(argv: &[&'a str], name: &str) -> Option<&'a str> {
    options(argv, name).next()
}

/// Values of an option, which may be given several times: the next argument, or what follows `=`. What follows `--` is no option of
/// the program: it may be a command that the program runs, such as a VMM with a name.
fn options<'a>(argv: &[&'a str], name: &str) -> impl Iterator<Item = &'a str> {
    argv.iter()
        .enumerate()
        .skip(1)
        .take_while(|(_, arg)| **arg != "--")
        .filter_map(move |(at, arg)| match arg.strip_prefix(name)? {
            "" => argv.get(at + 1).copied(),
            rest => rest.strip_prefix('='),
        })
}

/// Name in `guest=NAME,debug-threads=on` or `NAME,process=x`. QEMU doubles a comma within the name.
fn in_qemu_option(value: &str) -> String {
    // Replaces a comma within the name. No argument can contain it.
    const COMMA: &str = "\0";
    let value = value.replace(",,", COMMA);
    let mut parts = value.split(',');
    let first = parts.clone().next().filter(|part| !part.contains('='));
    let name = parts
        .find_map(|part| part.strip_prefix("guest="))
        .or(first)
        .unwrap_or_default();
    name.replace(COMMA, ",")
}

/// Name in libvirt's `machine-qemu\x2d1\x2dNAME.scope`. systemd escapes special characters as `\xNN`.
fn in_cgroup(cgroup: &str) -> Option<String> {
    let scope = cgroup
        .split('/')
        .find_map(|part| part.strip_prefix("machine-")?.strip_suffix(".scope"))?;
    let plain = unescape(scope);
    let mut parts = plain.splitn(3, '-');
    let (_driver, id, name) = (parts.next()?, parts.next()?, parts.next()?);
    id.parse::<u32>().ok()?;
    Some(name.to_owned())
}

fn unescape(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(byte) => {
                plain.push(byte);
                plain.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
            }
            None => {
                plain.extend_from_slice(b"\\x");
                plain.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_command_lines() {
        for (argv, name) in [
            (
                &["qemu-system-x86_64", "-name", "guest=web,debug-threads=on"][..],
                Some("web"),
            ),
            (
                &["/usr/bin/qemu-kvm", "-m", "1G", "-name", "web,process=vm"],
                Some("web"),
            ),
            (
                &["qemu-system-x86_64", "--name", "debug-threads=on,guest=a"],
                Some("a"),
            ),
            (&["qemu-system-x86_64", "-name", "a,,b"], Some("a,b")),
            (
                &["qemu-system-x86_64", "-name", "guest=rack=3"],
                Some("rack=3"),
            ),
            (
                &["firecracker", "--id", "fc-1", "--api-sock", "/run/x"],
                Some("fc-1"),
            ),
            (&["firecracker", "--id=fc-1"], Some("fc-1")),
            (&["kvm-collector", "guest", "--name", "a,b"], Some("a,b")),
            (&["crosvm", "run", "--name=vm"], Some("vm")),
            (&["cloud-hypervisor", "--api-socket", "/run/ch.sock"], None),
            (&["qemu-system-x86_64", "-name"], None),
            (
                &["kvm-collector", "record", "--", "qemu-kvm", "-name", "web"],
                None,
            ),
            (&[], None),
        ] {
            assert_eq!(in_argv(argv).as_deref(), name, "{argv:?}");
        }
    }

    #[test]
    fn uuids_are_read_from_command_lines() {
        const UUID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
        const OTHER: &str = "00000000-0000-0000-0000-000000000001";
        let upper = UUID.to_uppercase();
        let smbios = format!("type=1,manufacturer=RDO,uuid={UUID},family=x");
        let platform = format!("num_pci_segments=2,uuid={UUID}");
        let other_table = format!("type=2,uuid={OTHER}");
        let id = format!("--id={UUID}");
        for argv in [
            &["qemu-system-x86_64", "-name", "guest=web", "-uuid", UUID][..],
            &["qemu-kvm", "--uuid", &upper],
            &["qemu-kvm", "-smbios", "type=0,vendor=x", "-smbios", &smbios],
            &["qemu-kvm", "-smbios", &other_table, "-uuid", UUID],
            &["crosvm", "run", "--smbios", &format!("uuid={UUID}")],
            &["cloud-hypervisor", "--platform", &platform],
            &["firecracker", &id],
        ] {
            let uuid = uuid_in_argv(argv).map(|it| it.to_string());
            assert_eq!(uuid.as_deref(), Some(UUID), "{argv:?}");
        }
        for argv in [
            &["firecracker", "--id", "fc-1"][..],
            // The id of a Kata sandbox.
            &["qemu", "-name", "sandbox-5e2c4a", "-uuid", "5e2c4a51d0f8"],
            &["qemu-kvm", "-smbios", &other_table],
            &["qemu-kvm", "-uuid"],
            &["qemu-kvm", "-name", UUID],
            &[],
        ] {
            assert_eq!(uuid_in_argv(argv), None, "{argv:?}");
        }
    }

    #[test]
    fn names_are_read_from_libvirt_scopes() {
        let scope = r"0::/machine.slice/machine-qemu\x2d12\x2dmy\x2dweb.scope/libvirt/emulator";
        assert_eq!(in_cgroup(scope).as_deref(), Some("my-web"));
        assert_eq!(in_cgroup("0::/user.slice/session-3.scope"), None);
    }

    #[test]
    fn invalid_escapes_are_left_unchanged() {
        assert_eq!(unescape(r"a\x2"), r"a\x2");
        assert_eq!(unescape(r"a\x2db"), "a-b");
    }
}
