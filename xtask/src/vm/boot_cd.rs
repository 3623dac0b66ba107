//! Writes a bootable CD with a kernel and an initramfs, because Bochs cannot load a kernel itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process;

pub(super) const WRITER: &str = "xorriso";

/// The boot loader and its library.
pub(super) const BOOT_LOADER: [&str; 2] = [
    "/usr/lib/ISOLINUX/isolinux.bin",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
];

/// Writes the CD to `dir` and returns its path.
pub(super) fn write(
    dir: &Path,
    kernel: &Path,
    kernel_arguments: &str,
    initramfs: &[u8],
) -> Result<PathBuf> {
    let content = dir.join("cd");
    fs::create_dir_all(&content)?;
    for file in BOOT_LOADER.map(Path::new) {
        let name = file.file_name().context("the boot loader has a name")?;
        fs::copy(file, content.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    fs::copy(kernel, content.join("vmlinuz"))?;
    fs::write(content.join("initrd"), initramfs)?;
    fs::write(content.join("isolinux.cfg"), boot_menu(kernel_arguments))?;
    let image = dir.join("boot.iso");
    let log = dir.join("xorriso.log");
    process::run(
        Command::new(WRITER)
            .args(["-as", "mkisofs", "-quiet"])
            .args(["-b", "isolinux.bin", "-c", "boot.cat"])
            .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"])
            .arg("-o")
            .arg(&image)
            .arg(&content)
            // It prints its name even if all is well.
            .stderr(fs::File::create(&log)?),
    )
    .with_context(|| format!("cannot write a boot CD (log: {})", log.display()))?;
    fs::remove_dir_all(&content)?;
    Ok(image)
}

/// Returns the configuration of isolinux: one entry, which boots at once.
fn boot_menu(kernel_arguments: &str) -> String {
    format!(
        "default linux\nprompt 0\ntimeout 0\nlabel linux\n kernel vmlinuz\n append initrd=initrd {kernel_arguments}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_menu_has_the_arguments_of_the_kernel() {
        let menu = boot_menu("console=ttyS0 quiet");
        assert!(menu.contains("\n append initrd=initrd console=ttyS0 quiet\n"));
        assert!(menu.contains("prompt 0\n"), "it waits for no key");
    }
}
