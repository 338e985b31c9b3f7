//! The archive that a kernel unpacks into its first file system: cpio in the format "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst), written without being root.

use std::{
    collections::BTreeSet,
    io::{Result, Write},
    path::Path,
};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that is being written. Every path is absolute; the directories on its way are made as needed.
pub struct Archive<W> {
    out: W,
    there: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        Self {
            out,
            there: BTreeSet::new(),
        }
    }

    /// Whether something has that path.
    pub fn has(&self, path: &str) -> bool {
        self.there.contains(path)
    }

    /// A directory, with those around it.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        if path == "/" || self.has(path) {
            return Ok(());
        }
        self.parent(path)?;
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// A file that everybody may run; nothing when it is there.
    pub fn file(&mut self, path: &str, octets: &[u8]) -> Result<()> {
        self.parent(path)?;
        self.entry(path, FILE, (0, 0), octets)
    }

    /// A symbolic link; nothing when the path is taken.
    pub fn link(&mut self, path: &str, to: &str) -> Result<()> {
        self.parent(path)?;
        self.entry(path, LINK, (0, 0), to.as_bytes())
    }

    /// A character device.
    pub fn device(&mut self, path: &str, number: (u32, u32)) -> Result<()> {
        self.parent(path)?;
        self.entry(path, CHARACTER_DEVICE, number, &[])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<W> {
        self.entry("/TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parent(&mut self, path: &str) -> Result<()> {
        match Path::new(path).parent().and_then(Path::to_str) {
            Some(parent) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), octets: &[u8]) -> Result<()> {
        if !self.there.insert(path.to_owned()) {
            return Ok(());
        }
        let name = path.trim_start_matches('/');
        let size = u32::try_from(octets.len()).map_err(std::io::Error::other)?;
        let inode = u32::try_from(self.there.len()).map_err(std::io::Error::other)?;
        let length = u32::try_from(name.len() + 1).map_err(std::io::Error::other)?;
        write!(self.out, "070701")?;
        // inode, mode, uid, gid, links, mtime, size, device of the file, device that it is, name, checksum
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, length, 0] {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        // The header has 110 octets; name and content each end on a multiple of four.
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(octets)?;
        self.pad(octets.len())
    }

    fn pad(&mut self, length: usize) -> Result<()> {
        self.out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sizes_and_padding_are_as_the_format_has_them() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/bc", b"hello").unwrap();
        archive.file("/a/bc", b"not again").unwrap();
        let octets = archive.finish().unwrap();
        assert_eq!(octets.len() % 4, 0);
        let text = String::from_utf8(octets).unwrap();
        // The directory comes first: 110 octets of header, "a\0", padding to 112.
        assert!(text.starts_with("07070100000001000041ed"), "{text}");
        let file = &text[112..];
        assert!(file.starts_with("07070100000002000081ed"), "{file}");
        // Size 5, and 5 octets of name: "a/bc\0" ends at 115, content begins at 116.
        assert_eq!(&file[54..62], "00000005");
        assert_eq!(&file[94..102], "00000005");
        assert_eq!(&file[110..124], "a/bc\0\0hello\0\0\0");
        assert!(file[124..].starts_with("070701"));
        assert!(file.contains("TRAILER!!!"));
    }
}
