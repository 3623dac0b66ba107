//! KVM: its kernel modules and `/dev/kvm`.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use serde::Serialize;

use super::files::read_line;

/// State of KVM on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kvm {
    /// State of `/dev/kvm`.
    pub device: Device,
    /// The common module, `kvm`; `None` if it is not loaded.
    pub core: Option<Presence>,
    /// The vendor module: `kvm_intel`, `kvm_amd`, or another one such as `kvm_pvm`.
    pub flavour: Option<Flavour>,
}

/// State of `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// It can be opened, and answers as KVM.
    Usable,
    /// The file is not KVM's device, such as one that hides it in a container.
    Other,
    /// This process may not open it.
    Forbidden,
    /// It does not exist or has no driver.
    Missing,
}

/// How a module is present in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// As a loaded module, which can be unloaded.
    Module,
    /// Built into the kernel image.
    BuiltIn,
}

/// The vendor module of KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flavour {
    /// Name of the module.
    pub name: String,
    /// Loaded or built in.
    pub presence: Presence,
    /// Nested virtualization is on; `None` if unknown.
    pub nested: Option<bool>,
}

/// Reads the state of KVM below `root`.
#[must_use]
pub fn read(root: &Path) -> Kvm {
    let modules = root.join("sys/module");
    Kvm {
        device: device(&root.join("dev/kvm")),
        core: presence(&modules.join("kvm")),
        flavour: flavour(&modules),
    }
}

/// Returns the value of the field `isa` of `kvm_exit` on this host (`KVM_ISA_VMX` or `KVM_ISA_SVM`, arch/x86/kvm/trace.h),
/// from the vendor module. `None` if neither module is loaded.
#[must_use]
pub fn isa() -> Option<u32> {
    match vendor_module()?.as_str() {
        "kvm_intel" => Some(1),
        "kvm_amd" => Some(2),
        _ => None,
    }
}

/// Returns the name of the vendor module; `None` if none is loaded.
#[must_use]
pub fn vendor_module() -> Option<String> {
    Some(flavour(Path::new("/sys/module"))?.name)
}

fn device(path: &Path) -> Device {
    match fs::File::options().read(true).write(true).open(path) {
        Ok(file) if is_kvm(&file) => Device::Usable,
        Ok(_) => Device::Other,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Device::Forbidden,
        Err(_) => Device::Missing,
    }
}

/// Returns whether an open file answers KVM's first ioctl.
fn is_kvm(device: &fs::File) -> bool {
    /// `KVM_GET_API_VERSION`: `_IO(KVMIO, 0x00)`.
    const GET_API_VERSION: u32 = 0xAE00;
    /// The version since Linux 2.6.22 (Documentation/virt/kvm/api.rst).
    const API_VERSION: libc::c_int = 12;
    // SAFETY: an ioctl without an argument, on an open descriptor.
    let version = unsafe { libc::ioctl(device.as_raw_fd(), GET_API_VERSION as _, 0) };
    version == API_VERSION
}

/// Finds the vendor module. Only one can use the processor's virtualization extension at a time.
fn flavour(modules: &Path) -> Option<Flavour> {
    let names = fs::read_dir(modules)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let name = names.filter(|name| name.starts_with("kvm_")).min()?;
    let module = modules.join(&name);
    let nested =
        read_line(module.join("parameters/nested")).map(|text| matches!(text.as_str(), "1" | "Y"));
    Some(Flavour {
        presence: presence(&module)?,
        nested,
        name,
    })
}

/// Only loaded modules have the file `initstate`.
fn presence(module: &Path) -> Option<Presence> {
    let kind = if module.join("initstate").exists() {
        Presence::Module
    } else {
        Presence::BuiltIn
    };
    module.is_dir().then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeRoot;

    #[test]
    fn a_loaded_vendor_module_is_found() {
        let tree = FakeRoot::new();
        tree.file("sys/module/kvm/initstate", "live\n");
        tree.file("sys/module/kvm_amd/initstate", "live\n");
        tree.file("sys/module/kvm_amd/parameters/nested", "1\n");
        tree.file("dev/kvm", "");
        let flavour = Flavour {
            name: "kvm_amd".to_owned(),
            presence: Presence::Module,
            nested: Some(true),
        };
        let expected = Kvm {
            // A regular file is no device of KVM.
            device: Device::Other,
            core: Some(Presence::Module),
            flavour: Some(flavour),
        };
        assert_eq!(read(tree.path()), expected);
    }

    #[test]
    fn another_device_is_not_usable() {
        assert_eq!(device(Path::new("/dev/null")), Device::Other);
        assert_eq!(device(Path::new("/dev/missing")), Device::Missing);
    }

    #[test]
    fn a_built_in_kvm_without_vendor_module_is_found() {
        let tree = FakeRoot::new();
        tree.dir("sys/module/kvm/parameters");
        let expected = Kvm {
            device: Device::Missing,
            core: Some(Presence::BuiltIn),
            flavour: None,
        };
        assert_eq!(read(tree.path()), expected);
    }
}
