//! Types of the running kernel, from its BTF.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{
    btf::Btf,
    btf_view::BtfView,
    types::{BitRange, KernelTypes},
};
use crate::bounds::{SYSTEM_FILE_BYTES, read_bounded};

/// Where the kernel provides its BTF.
const BTF_FOLDER: &str = "/sys/kernel/btf";

/// The start of the names of the modules that have the types of KVM's events: `kvm`, `kvm_intel`, `kvm_amd`.
const KVM_MODULES: &str = "kvm";

/// The types of the running kernel. Its BTF is read when the first type is needed: it has about 5 MB.
#[derive(Clone, Copy, Debug)]
pub struct RunningKernel;

/// The BTF of a kernel and of its modules for KVM.
#[derive(Debug)]
struct KernelBtf {
    image: Btf,
    modules: Vec<Btf>,
}

impl KernelTypes for RunningKernel {
    fn member_bits(&self, type_name: &str, member: &str) -> Option<BitRange> {
        Self::btf()?.member_bits(type_name, member)
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        Self::btf()?.enumerator(name)
    }
}

impl RunningKernel {
    fn btf() -> Option<&'static KernelBtf> {
        static BTF: OnceLock<Option<KernelBtf>> = OnceLock::new();
        BTF.get_or_init(|| KernelBtf::read(Path::new(BTF_FOLDER)))
            .as_ref()
    }
}

impl KernelBtf {
    /// Reads the BTF in a folder. `None` if there is none, or if it is malformed.
    fn read(folder: &Path) -> Option<Self> {
        let read = |path: &Path| match read_bounded(path, SYSTEM_FILE_BYTES) {
            Ok(data) => Some(data),
            Err(error) => {
                log::debug!("cannot read {}: {error}", path.display());
                None
            }
        };
        let image = Btf::parse(&read(&folder.join("vmlinux"))?)?;
        let modules = kvm_modules(folder).into_iter();
        let modules = modules
            .map(|path| Btf::parse_module(&read(&path)?, &image))
            .collect::<Option<_>>()?;
        Some(Self { image, modules })
    }

    fn views(&self) -> impl Iterator<Item = BtfView<'_>> {
        let modules = self.modules.iter().map(Some);
        let views = std::iter::once(None).chain(modules);
        views.map(|module| BtfView::new(&self.image, module))
    }

    fn member_bits(&self, type_name: &str, member: &str) -> Option<BitRange> {
        let found = self.views().map(|it| it.member_bits(type_name, member));
        the_only_value(found.flatten())?
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        the_only_value(self.views().flat_map(|it| it.enumerators(name)))
    }
}

/// Returns the paths of the modules for KVM.
fn kvm_modules(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .filter(|it| it.file_name().to_string_lossy().starts_with(KVM_MODULES))
        .map(|it| it.path())
        .collect();
    paths.sort();
    paths
}

/// Returns the value that all have. `None` if there is no value, or if two differ: then it is not known
/// which of them the print format means.
fn the_only_value<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|it| it == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::super::test_btf;
    use super::*;

    #[test]
    fn a_value_with_two_definitions_is_known_if_they_are_equal() {
        assert_eq!(the_only_value([1, 1].into_iter()), Some(1));
        assert_eq!(the_only_value([1, 2].into_iter()), None);
        assert_eq!(the_only_value(std::iter::empty::<u8>()), None);
    }

    #[test]
    fn types_of_the_image_and_of_modules_are_found() {
        let folder = std::env::temp_dir().join(format!("kvmc-btf-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let image = test_btf::kernel_image();
        fs::write(folder.join("vmlinux"), &image).unwrap();
        fs::write(folder.join("other"), b"malformed").unwrap();
        let module = test_btf::kvm_module(Btf::parse(&image).unwrap().sizes());
        fs::write(folder.join("kvm"), &module).unwrap();
        fs::write(folder.join("kvm_amd"), &module).unwrap();
        let btf = KernelBtf::read(&folder).unwrap();
        let role = |member| btf.member_bits("union kvm_mmu_page_role", member);
        assert_eq!(role("access"), BitRange::new(8, 4));
        assert_eq!(btf.enumerator("VDSO_CLOCKMODE_TSC"), Some(1));
        assert_eq!(btf.enumerator("NOTHING"), None);
        // A module that cannot be read may have another definition.
        fs::write(folder.join("kvm_intel"), b"malformed").unwrap();
        assert!(KernelBtf::read(&folder).is_none());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_btf_of_this_kernel_has_the_types_of_kvm() {
        if !Path::new(BTF_FOLDER).join("vmlinux").exists() {
            println!("SKIPPED: this kernel has no BTF");
            return;
        }
        assert_eq!(RunningKernel.enumerator("VDSO_CLOCKMODE_NONE"), Some(0));
        assert_eq!(RunningKernel.enumerator("NO_SUCH_ENUMERATOR"), None);
    }
}
