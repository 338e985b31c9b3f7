//! Writes addresses and lengths of tables into the object, where the compiler left a mark (`forwarder_common::direct`).

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result};
use aya::maps::MapData;
use forwarder_common::direct::{Marked, TABLES, read_mark};

/// `BPF_LD | BPF_IMM | BPF_DW`: a 64-bit immediate over two instructions.
const LOAD_IMMEDIATE: u8 = 0x18;
/// `BPF_PSEUDO_MAP_VALUE`: the immediate is a map's descriptor and an offset into its first element.
const MAP_VALUE: u8 = 2;
/// Octets of an instruction.
const INSTRUCTION: usize = 8;

/// An object that names its tables; they stay open for as long as this lives, as they must until its programs are loaded.
pub struct Object {
    /// The ELF object.
    pub octets: Vec<u8>,
    /// The open tables.
    pub tables: HashMap<&'static str, MapData>,
}

/// Replaces every mark in `object`: addresses by what `open` answers for a table's name, lengths by `length`.
///
/// # Errors
/// A table that cannot be opened, or a mark of another version of the program.
pub fn resolve(
    object: &[u8],
    mut open: impl FnMut(&'static str) -> Result<MapData>,
    length: impl Fn(&'static str) -> u32,
) -> Result<Object> {
    let mut octets = object.to_vec();
    let mut tables: HashMap<&'static str, MapData> = HashMap::new();
    for pair in 0..octets.len().saturating_sub(INSTRUCTION) / INSTRUCTION {
        let at = pair * INSTRUCTION;
        let Some(instruction) = octets.get_mut(at..at + 2 * INSTRUCTION) else {
            break;
        };
        let Some(marked) = mark_of(instruction) else {
            continue;
        };
        let (Marked::Address(number) | Marked::Length(number)) = marked;
        let name = *TABLES
            .get(number as usize)
            .context("the BPF object was built for other tables than this program")?;
        match marked {
            Marked::Address(_) => {
                if !tables.contains_key(name) {
                    tables.insert(name, open(name)?);
                }
                let descriptor = tables[name].fd().as_fd().as_raw_fd();
                instruction[1] |= MAP_VALUE << 4;
                set(instruction, descriptor as u32, 0);
            }
            Marked::Length(_) => set(instruction, length(name), 0),
        }
    }
    Ok(Object { octets, tables })
}

/// The mark in a pair of instructions, if it is one that loads a mark.
fn mark_of(pair: &[u8]) -> Option<Marked> {
    let word = |at: usize| Some(u32::from_le_bytes(pair.get(at..at + 4)?.try_into().ok()?));
    let (first, second) = (word(0)?, word(INSTRUCTION)?);
    // Any destination register, no source, no offset; the second of the pair holds nothing but the upper half.
    if first & 0xffff_f0ff != LOAD_IMMEDIATE as u32 || second != 0 {
        return None;
    }
    read_mark(word(4)? as u64 | (word(INSTRUCTION + 4)? as u64) << 32)
}

fn set(pair: &mut [u8], low: u32, high: u32) {
    pair[4..8].copy_from_slice(&low.to_le_bytes());
    pair[INSTRUCTION + 4..].copy_from_slice(&high.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwarder_common::direct::{address_mark, length_mark};

    fn load(register: u8, immediate: u64) -> Vec<u8> {
        let mut pair = vec![LOAD_IMMEDIATE, register, 0, 0];
        pair.extend((immediate as u32).to_le_bytes());
        pair.extend([0; 4]);
        pair.extend(((immediate >> 32) as u32).to_le_bytes());
        pair
    }

    fn nothing(_: &'static str) -> Result<MapData> {
        anyhow::bail!("nothing is open in this test")
    }

    #[test]
    fn a_length_becomes_a_number_and_other_numbers_stay() {
        let object = [load(3, 0x1122_3344_5566_7788), load(5, length_mark(2))].concat();
        let resolved =
            resolve(&object, nothing, |name| if name == TABLES[2] { 77 } else { 0 }).expect("resolved");
        assert_eq!(
            resolved.octets,
            [load(3, 0x1122_3344_5566_7788), load(5, 77)].concat()
        );
    }

    #[test]
    fn an_address_is_asked_for_and_its_failure_told() {
        let object = load(1, address_mark(0));
        let why = resolve(&object, nothing, |_| 0).err().expect("refused");
        assert_eq!(why.to_string(), "nothing is open in this test");
    }

    #[test]
    fn a_table_of_another_version_is_refused() {
        let object = load(1, length_mark(TABLES.len() as u32));
        assert!(resolve(&object, nothing, |_| 0).is_err());
    }
}
