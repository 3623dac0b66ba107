//! KVM: its modules and its device.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use super::line;

/// What this machine has of KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kvm {
    /// `/dev/kvm`.
    pub device: Device,
    /// The common part, `kvm`.
    pub core: Option<Presence>,
    /// The part for the processor: `kvm_intel`, `kvm_amd`, or another flavour, such as `kvm_pvm`.
    pub flavour: Option<Flavour>,
}

/// Whether the device can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// It can.
    Usable,
    /// It is there, but not for us.
    Forbidden,
    /// It is not there, or nothing is behind it.
    Missing,
}

/// How a part of the kernel is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// As a module that can go away.
    Module,
    /// As part of the kernel image.
    BuiltIn,
}

/// The part of KVM that knows the processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flavour {
    /// The module's name.
    pub name: String,
    /// How it is there.
    pub presence: Presence,
    /// Whether guests may run guests; `None` when it does not say.
    pub nested: Option<bool>,
}

/// Looks at the machine at `root`.
#[must_use]
pub fn read(root: &Path) -> Kvm {
    let modules = root.join("sys/module");
    Kvm {
        device: device(&root.join("dev/kvm")),
        core: presence(&modules.join("kvm")),
        flavour: flavour(&modules),
    }
}

fn device(path: &Path) -> Device {
    match fs::File::options().read(true).write(true).open(path) {
        Ok(_) => Device::Usable,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Device::Forbidden,
        Err(_) => Device::Missing,
    }
}

/// The first `kvm_*` there is: only one can own the processor's extension at a time.
fn flavour(modules: &Path) -> Option<Flavour> {
    let names = fs::read_dir(modules)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let name = names.filter(|name| name.starts_with("kvm_")).min()?;
    let module = modules.join(&name);
    let nested =
        line(module.join("parameters/nested")).map(|text| matches!(text.as_str(), "1" | "Y"));
    Some(Flavour {
        presence: presence(&module)?,
        nested,
        name,
    })
}

/// Only what was loaded has a load state.
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
    use crate::host::fake::Tree;

    #[test]
    fn a_loaded_flavour_with_nesting() {
        let tree = Tree::new();
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
            device: Device::Usable,
            core: Some(Presence::Module),
            flavour: Some(flavour),
        };
        assert_eq!(read(tree.path()), expected);
    }

    #[test]
    fn built_in_and_without_a_flavour() {
        let tree = Tree::new();
        tree.dir("sys/module/kvm/parameters");
        let expected = Kvm {
            device: Device::Missing,
            core: Some(Presence::BuiltIn),
            flavour: None,
        };
        assert_eq!(read(tree.path()), expected);
    }
}
