//! Writes the cpio format "newc" of an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;

/// An archive. Parent folders of entries are added automatically. If a path is added twice, the first entry is used.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Archive {
    pub(crate) fn add_directory(&mut self, path: &str) {
        self.add_entry(path, DIRECTORY, b"");
    }

    pub(crate) fn add_file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.add_entry(path, REGULAR | (permissions & 0o7777), content);
    }

    pub(crate) fn add_symlink(&mut self, path: &str, target: &str) {
        self.add_entry(path, SYMLINK, target.as_bytes());
    }

    /// Returns the bytes of the complete archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.write_entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn add_entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.paths.contains(path) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.add_directory(parent);
        }
        self.paths.insert(path.to_owned());
        self.write_entry(path, mode, content);
    }

    fn write_entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let inode = self.paths.len();
        let size = content.len();
        let name_size = path.len() + 1;
        // magic, inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0, 1
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Adds padding, because names and contents start at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_parents_come_first() {
        let mut archive = Archive::default();
        archive.add_file("/a/b", 0o755, b"xyz");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 3, "a, a/b and the trailer");
        assert!(text.find("a\0") < text.find("a/b\0"));
        assert_eq!(&bytes[14..22], b"000041ed", "mode of the folder");
    }

    #[test]
    fn the_first_entry_of_a_path_is_used() {
        let mut archive = Archive::default();
        archive.add_file("bin/sh", 0o755, b"first");
        archive.add_symlink("/bin/sh", "busybox");
        assert!(!String::from_utf8_lossy(&archive.finish()).contains("busybox"));
    }
}
