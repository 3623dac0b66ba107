//! Linux as the guest of a VM that QEMU runs in the VM: the same kernel, and busybox.

use std::path::Path;

use anyhow::Result;

use super::{cpio::Archive, files::add_file, kernel::Kernel};

/// Path of the guest's kernel in the VM.
const KERNEL: &str = "guest/vmlinuz";

/// Path of the guest's user space in the VM.
const INITRAMFS: &str = "guest/initramfs";

/// PID 1 of the guest.
const INIT: &str = include_str!("linux_guest_init.sh");

/// Adds the kernel and the user space.
pub(super) fn add_to(archive: &mut Archive, kernel: &Kernel, busybox: &Path) -> Result<()> {
    let mut user_space = Archive::default();
    for folder in ["dev", "proc", "sys", "bin"] {
        user_space.add_directory(folder);
    }
    user_space.add_file("init", 0o755, INIT.as_bytes());
    add_file(&mut user_space, busybox, "bin/busybox")?;
    archive.add_file(INITRAMFS, 0o644, &user_space.finish());
    add_file(archive, &kernel.image, KERNEL)
}
