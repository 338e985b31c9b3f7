//! Offsets of kernel structure members, from the running kernel's BTF.
//!
//! The tracepoints hand out `net_device` pointers, and the members we read move between kernels. This reads just enough of
//! `/sys/kernel/btf/vmlinux` (Documentation/bpf/btf.rst) to find a member by its path.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Where the kernel keeps its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;
/// Kinds that stand for another type: pointers excluded, they end a path.
const TRANSPARENT: [u32; 5] = [8, 9, 10, 11, 18];

/// Parsed BTF: where each type begins.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    types: Vec<usize>,
}

impl Btf {
    /// Reads the kernel's BTF.
    ///
    /// # Errors
    /// The kernel has none, or it is not understood.
    pub fn of_kernel() -> Result<Btf> {
        Btf::read(Path::new(VMLINUX))
    }

    /// Reads a BTF file.
    ///
    /// # Errors
    /// As [`Btf::of_kernel`].
    pub fn read(path: &Path) -> Result<Btf> {
        let data = std::fs::read(path).with_context(|| {
            format!(
                "cannot read {}: the kernel must be built with CONFIG_DEBUG_INFO_BTF (Debian's are)",
                path.display()
            )
        })?;
        Btf::parse(data).with_context(|| format!("{} is not BTF as this version knows it", path.display()))
    }

    /// Parses BTF.
    ///
    /// # Errors
    /// It is cut short or of an unknown kind.
    pub fn parse(data: Vec<u8>) -> Result<Btf> {
        let u32_at = |offset: usize| word(&data, offset);
        if data.get(..2) != Some(&[0x9f, 0xeb]) {
            bail!("no BTF magic");
        }
        let header = u32_at(4)? as usize;
        let begin = header + u32_at(8)? as usize;
        let end = begin + u32_at(12)? as usize;
        let strings = header + u32_at(16)? as usize;
        let mut types = vec![0];
        let mut at = begin;
        while at < end {
            types.push(at);
            let info = u32_at(at + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            at += 12
                + match kind {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * members,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * members,
                    _ => 0,
                };
        }
        Ok(Btf { data, strings, types })
    }

    fn name(&self, offset: u32) -> &[u8] {
        let start = self.strings + offset as usize;
        let rest = self.data.get(start..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn header(&self, id: u32) -> Result<(u32, u32, u32)> {
        let at = *self
            .types
            .get(id as usize)
            .context("a type that does not exist")?;
        Ok((
            word(&self.data, at)?,
            word(&self.data, at + 4)?,
            word(&self.data, at + 8)?,
        ))
    }

    /// Octet offset of a member, named by its path: `["nd_net", "net"]` of `net_device`.
    ///
    /// # Errors
    /// There is no such structure or member.
    pub fn offset(&self, structure: &str, path: &[&str]) -> Result<u32> {
        let found = (1..self.types.len() as u32).find(|id| {
            self.header(*id).is_ok_and(|(name, info, _)| {
                info >> 24 & 0x1f == KIND_STRUCT && self.name(name) == structure.as_bytes()
            })
        });
        let mut id = found.with_context(|| format!("the kernel's BTF has no struct {structure}"))?;
        let mut bits = 0;
        for member in path {
            let (offset, kind) = self
                .member(id, member, 0)?
                .with_context(|| format!("struct {structure} has no member {}", path.join(".")))?;
            bits += offset;
            id = kind;
        }
        Ok(bits / 8)
    }

    /// Bit offset and type of a member, looked for in anonymous members too.
    fn member(&self, id: u32, wanted: &str, depth: u8) -> Result<Option<(u32, u32)>> {
        let id = self.resolve(id)?;
        let (_, info, _) = self.header(id)?;
        let kind = info >> 24 & 0x1f;
        if depth > 16 || kind != KIND_STRUCT && kind != KIND_UNION {
            return Ok(None);
        }
        let at = self.types[id as usize] + 12;
        for index in 0..(info & 0xffff) as usize {
            let entry = at + index * 12;
            let (name, kind) = (word(&self.data, entry)?, word(&self.data, entry + 4)?);
            let offset = word(&self.data, entry + 8)?;
            // With the kind flag the upper octet is a bit-field's size.
            let offset = if info >> 31 != 0 {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            if self.name(name) == wanted.as_bytes() {
                return Ok(Some((offset, kind)));
            }
            if self.name(name).is_empty()
                && let Some((inner, kind)) = self.member(kind, wanted, depth + 1)?
            {
                return Ok(Some((offset + inner, kind)));
            }
        }
        Ok(None)
    }

    fn resolve(&self, mut id: u32) -> Result<u32> {
        for _ in 0..32 {
            let (_, info, target) = self.header(id)?;
            if !TRANSPARENT.contains(&(info >> 24 & 0x1f)) {
                return Ok(id);
            }
            id = target;
        }
        bail!("a chain of types without end")
    }
}

fn word(data: &[u8], offset: usize) -> Result<u32> {
    let bytes = data.get(offset..offset + 4).context("cut short")?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernels_members_are_found() {
        let btf = Btf::of_kernel().expect("this kernel's BTF");
        assert!(btf.offset("net_device", &["ifindex"]).expect("ifindex") > 0);
        assert!(btf.offset("net_device", &["nd_net", "net"]).expect("nd_net") > 0);
        assert!(btf.offset("net", &["ns", "inum"]).expect("inum") > 0);
        assert!(btf.offset("net_device", &["no_such_member"]).is_err());
    }

    #[test]
    fn a_cut_file_is_an_error_at_every_length() {
        let whole = std::fs::read(VMLINUX).expect("this kernel's BTF");
        for length in (0..4096).step_by(7) {
            assert!(Btf::parse(whole[..length].to_vec()).is_err(), "length {length}");
        }
    }
}
