//! Finds the files that a kernel module needs, from depmod's `modules.dep`.

/// Returns the files of `module` and of all its dependencies, relative to the folder of `modules.dep`. `None` if there is no
/// such module, which usually means that it is built in.
///
/// depmod also lists indirect dependencies, so one line is enough.
pub(crate) fn files_of<'a>(modules_dep: &'a str, module: &str) -> Option<Vec<&'a str>> {
    modules_dep.lines().find_map(|line| {
        let (file, dependencies) = line.split_once(':')?;
        (module_name(file) == module).then(|| {
            std::iter::once(file)
                .chain(dependencies.split_whitespace())
                .collect()
        })
    })
}

/// Returns the module name for a file: `kvm_amd` for `kernel/arch/x86/kvm/kvm-amd.ko.xz`. Module names have no dashes.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split('.').next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES_DEP: &str = "\
kernel/arch/x86/kvm/kvm.ko.xz: kernel/virt/lib/irqbypass.ko.xz
kernel/arch/x86/kvm/kvm-amd.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz kernel/virt/lib/irqbypass.ko.xz
kernel/virt/lib/irqbypass.ko.xz:
";

    #[test]
    fn a_module_comes_with_its_dependencies() {
        let files = files_of(MODULES_DEP, "kvm_amd").unwrap();
        assert_eq!(files.len(), 3);
        assert_eq!(files[0], "kernel/arch/x86/kvm/kvm-amd.ko.xz");
        assert_eq!(files_of(MODULES_DEP, "irqbypass").unwrap().len(), 1);
    }

    #[test]
    fn a_built_in_module_has_no_files() {
        assert_eq!(files_of(MODULES_DEP, "virtio_pci"), None);
    }
}
