//! A file of the readings that no durable sample has yet, so that a SIGKILL loses none.
//!
//! It lies in the memory that `/run` is, beside the socket: like the pinned maps it outlives the controller and not the machine, and a
//! disk that takes its time keeps no route waiting. A reading is in it before the slot's directory entry changes, so whoever
//! finds the new entry after a SIGKILL finds the reading of the old one here.
//!
//! ```text
//! header: magic, which maps, number in front of the first record, which journal
//! records of one length, numbered one by one; a shorter one at the end was being written, and its slot is as it was
//! ```

use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use forwarder_common::{counters::Counter, directory::SlotEntry};

use super::readings::Reading;

/// The words of a record: its number, slot and group, the entry's other seven words, and three counters.
const WORDS: usize = 14;
const RECORD: usize = WORDS * 8;
/// "fwdread1"
const MAGIC: u64 = u64::from_le_bytes(*b"fwdread1");
/// Readings in it at most, 29 MB: what comes then would be lost by prefix with a SIGKILL.
const MOST: u64 = 1 << 18;

/// The file, open for whoever writes readings down.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    header: Header,
    records: u64,
    /// It did not take the last one.
    failed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Header {
    maps: u64,
    /// The number in front of the first record.
    base: u64,
    /// Drawn when a journal is begun: numbers of one mean nothing in another.
    id: u64,
}

/// A place in a journal: everything up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Which journal; 0 is none.
    pub journal: u64,
    /// Number of a reading.
    pub number: u64,
}

impl Journal {
    /// Opens the journal of these maps, and begins it anew where it is of others, damaged or not there.
    ///
    /// # Errors
    /// The file can be neither read nor made.
    pub fn open(path: &Path, maps: u64) -> io::Result<Journal> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let octets = match fs::read(path) {
            Ok(octets) => octets,
            Err(why) if why.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(why) => return Err(why),
        };
        let found = header(&octets).filter(|header| header.maps == maps);
        let (header, records) = match found {
            Some(header) => (header, records(header, &octets).collect()),
            None => {
                let id = RandomState::new().hash_one(path) | 1;
                let header = Header { maps, base: 0, id };
                (header, Vec::new())
            }
        };
        Journal::written(path.to_path_buf(), header, &records)
    }

    /// Puts a file with these records in the place of the one that is there.
    fn written(path: PathBuf, header: Header, records: &[(u64, Reading)]) -> io::Result<Journal> {
        let mut octets = Vec::with_capacity((1 + records.len()) * RECORD);
        let Header { maps, base, id } = header;
        octets.extend(encoded([MAGIC, maps, base, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        for (number, reading) in records {
            octets.extend(record(*number, reading));
        }
        let mut name = path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        // Whatever is there was left half written.
        match fs::remove_file(&new) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&octets)?;
        fs::rename(&new, &path)?;
        Ok(Journal {
            file,
            path,
            header,
            records: records.len() as u64,
            failed: false,
        })
    }

    /// In front of the first reading in it, and at the last one.
    pub fn ends(&self) -> [Mark; 2] {
        let at = |number| Mark {
            journal: self.header.id,
            number,
        };
        [at(self.header.base), at(self.header.base + self.records)]
    }

    /// Writes a reading down. Answers whether it is the first that found no room.
    pub fn append(&mut self, reading: &Reading) -> bool {
        let number = self.header.base + self.records + 1;
        let written = self.records < MOST && self.file.write_all(&record(number, reading)).is_ok();
        if written {
            self.records += 1;
        } else if self.records < MOST {
            // Half of one would put all behind it out of step.
            let _ = self.file.set_len((1 + self.records) * RECORD as u64);
        }
        let first = !written && !self.failed;
        self.failed = !written;
        first
    }

    /// Readings behind a place; all of them where that is one of another journal.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn behind(&self, mark: Mark) -> io::Result<Vec<(u64, Reading)>> {
        let mut octets = Vec::new();
        File::open(&self.path)?.read_to_end(&mut octets)?;
        let behind = |number| mark.journal != self.header.id || number > mark.number;
        let all = records(self.header, &octets);
        Ok(all.filter(|(number, _)| behind(*number)).collect())
    }

    /// Forgets readings up to a place: they are in samples.
    ///
    /// # Errors
    /// It could not be written, and is as before.
    pub fn forget(&mut self, mark: Mark) -> io::Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let rest = self.behind(mark)?;
        let base = self.header.base + self.records - rest.len() as u64;
        let header = Header { base, ..self.header };
        *self = Journal::written(self.path.clone(), header, &rest)?;
        Ok(())
    }
}

fn encoded(words: [u64; WORDS]) -> [u8; RECORD] {
    let mut octets = [0; RECORD];
    for (place, word) in octets.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    octets
}

fn word(octets: &[u8], place: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(found) = octets.get(place * 8..place * 8 + 8) {
        word.copy_from_slice(found);
    }
    u64::from_le_bytes(word)
}

fn record(number: u64, reading: &Reading) -> [u8; RECORD] {
    let entry = &reading.entry;
    let address = u128::from_le_bytes(entry.address);
    encoded([
        number,
        u64::from(reading.slot) | u64::from(entry.group) << 32,
        address as u64,
        (address >> 64) as u64,
        u64::from_le_bytes([
            entry.length,
            entry.family,
            entry.state,
            entry.flags,
            entry.generation,
            entry.protocol,
            0,
            0,
        ]),
        u64::from(entry.origin_as) | u64::from(entry.neighbour) << 32,
        entry.baseline.packets,
        entry.baseline.bytes,
        reading.to.packets,
        reading.to.bytes,
        reading.from.packets,
        reading.from.bytes,
        reading.from_baseline.packets,
        reading.from_baseline.bytes,
    ])
}

fn header(octets: &[u8]) -> Option<Header> {
    let ours = octets.len() >= RECORD && word(octets, 0) == MAGIC;
    ours.then(|| Header {
        maps: word(octets, 1),
        base: word(octets, 2),
        id: word(octets, 3),
    })
}

/// Whole records, as far as they are numbered one by one.
fn records(Header { base, .. }: Header, octets: &[u8]) -> impl Iterator<Item = (u64, Reading)> {
    let behind = octets.get(RECORD..).unwrap_or_default();
    let numbered = behind.chunks_exact(RECORD).zip(1..);
    numbered.map_while(move |(octets, place)| {
        let number = base.checked_add(place)?;
        let counter = |place| Counter {
            packets: word(octets, place),
            bytes: word(octets, place + 1),
        };
        let address = u128::from(word(octets, 2)) | u128::from(word(octets, 3)) << 64;
        let [length, family, state, flags, generation, protocol, ..] = word(octets, 4).to_le_bytes();
        let entry = SlotEntry {
            address: address.to_le_bytes(),
            length,
            family,
            state,
            flags,
            group: (word(octets, 1) >> 32) as u32,
            baseline: counter(6),
            origin_as: word(octets, 5) as u32,
            neighbour: (word(octets, 5) >> 32) as u16,
            generation,
            protocol,
        };
        let reading = Reading {
            slot: word(octets, 1) as u32,
            entry,
            to: counter(8),
            from: counter(10),
            from_baseline: counter(12),
        };
        (word(octets, 0) == number).then_some((number, reading))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(n: u64) -> Reading {
        let counter = |packets| Counter {
            packets,
            bytes: packets << 40 | 1,
        };
        Reading {
            slot: n as u32 | 1 << 31,
            entry: SlotEntry {
                address: [n as u8; 16],
                length: 128,
                family: 6,
                state: 4,
                flags: 1,
                group: u32::MAX,
                baseline: counter(n),
                origin_as: u32::MAX - 1,
                neighbour: u16::MAX,
                generation: 255,
                protocol: 186,
            },
            to: counter(n + 1),
            from: counter(n + 2),
            from_baseline: counter(n + 3),
        }
    }

    fn numbers(journal: &Journal, behind: u64) -> Vec<u64> {
        let [first, last] = journal.ends();
        let mark = Mark {
            number: behind,
            ..last
        };
        let found = journal.behind(mark).expect("readable");
        for (number, found) in &found {
            assert_eq!(*found, reading(*number));
        }
        let numbers: Vec<u64> = found.into_iter().map(|(number, _)| number).collect();
        let expected: Vec<u64> = (behind.max(first.number) + 1..=last.number).collect();
        assert_eq!(numbers, expected);
        numbers
    }

    fn forget(journal: &mut Journal, number: u64) {
        let [mark, _] = journal.ends();
        journal.forget(Mark { number, ..mark }).expect("written");
    }

    #[test]
    fn readings_outlive_their_writer_and_go_when_they_are_in_samples() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sub/forwarder.readings");
        let mut journal = Journal::open(&path, 7).expect("made");
        for n in 1..=5 {
            assert!(!journal.append(&reading(n)));
        }
        assert_eq!(numbers(&journal, 2), [3, 4, 5]);
        drop(journal);
        let mut journal = Journal::open(&path, 7).expect("there");
        assert_eq!(numbers(&journal, 0), [1, 2, 3, 4, 5]);
        forget(&mut journal, 4);
        assert_eq!(numbers(&journal, 0), [5]);
        forget(&mut journal, 5);
        journal.append(&reading(6));
        drop(journal);
        let mut journal = Journal::open(&path, 7).expect("there");
        assert_eq!(numbers(&journal, 0), [6]);
        forget(&mut journal, 6);
        // Empty, and the numbers go on.
        let ends = journal.ends();
        drop(journal);
        let mut journal = Journal::open(&path, 7).expect("there");
        assert_eq!((journal.ends(), ends[1].number), (ends, 6));
        journal.append(&reading(7));
        assert_eq!(numbers(&journal, 6), [7]);
        // A place in another journal is none in this one.
        let elsewhere = Mark {
            journal: ends[0].journal ^ 2,
            number: 900,
        };
        assert_eq!(journal.behind(elsewhere).expect("readable").len(), 1);
        // Of other maps.
        let journal = Journal::open(&path, 8).expect("made");
        assert!(numbers(&journal, 0).is_empty());
        assert_ne!(journal.ends()[0].journal, ends[0].journal);
    }

    #[test]
    fn what_was_being_written_is_left_out_and_what_is_no_journal_begun_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("forwarder.readings");
        let mut journal = Journal::open(&path, 7).expect("made");
        for n in 1..=3 {
            journal.append(&reading(n));
        }
        drop(journal);
        let whole = fs::read(&path).expect("readable");
        for cut in 1..RECORD {
            fs::write(&path, &whole[..whole.len() - cut]).expect("written");
            let mut journal = Journal::open(&path, 7).expect("there");
            assert_eq!(numbers(&journal, 0), [1, 2], "{cut}");
            journal.append(&reading(3));
            assert_eq!(numbers(&journal, 0), [1, 2, 3]);
        }
        // A header of nearly nothing, words that are not ours, a number that is none of the next.
        let mut other = whole.clone();
        other[2 * RECORD] ^= 1;
        for (octets, left) in [(&whole[..RECORD - 1], 0), (b"nonsense", 0), (&other, 1)] {
            fs::write(&path, octets).expect("written");
            let journal = Journal::open(&path, 7).expect("there");
            assert_eq!(numbers(&journal, 0).len(), left);
        }
    }
}
