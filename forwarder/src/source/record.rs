//! Recordings of feeds: what `forwarder record` and `forwarder run --record DIR` write and tests replay.
//!
//! ```text
//! forwarder-record 1 fpm 127.0.0.1:2620\n      version, kind and name of the feed; both without white space
//! u64  nanoseconds since the Unix epoch        integers big-endian
//! u8   kind: 0 session begins, 1 octets read, 2 session ends, 3 octets missed
//! u32  length
//! ...  octets; with kind 3 a u64, how many are missing here
//! ```
//! and again from the time on, to the end of the file. What was read at once stands together, as the feed got it: BGP
//! messages and FPM frames may be cut anywhere, a datagram of netlink is whole. Of the kernel, what stands between the beginning
//! and the end of a session is a dump, and what is read outside are its announcements; how many of them are missing nobody can
//! know, so that is 0.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::feed::FeedHandle;
use super::tap::{Chunk, Kind, Recording};
use crate::clock::unix_seconds;

/// The first word of a recording.
const MAGIC: &str = "forwarder-record";
/// Its version.
const VERSION: &str = "1";
/// The first line at most.
const MAX_LINE: u64 = 1_024;
/// How long a chunk may wait in memory.
const FLUSH: Duration = Duration::from_millis(500);
/// A chunk at most: more than any feed reads at once.
const MAX_CHUNK: u32 = 1 << 24;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is none, or one of a later version.
    #[error("not a recording of a feed: {0}")]
    Header(String),
    /// A chunk is not what it should be.
    #[error("chunk {number} at octet {offset}: {what}")]
    Chunk {
        /// Which, from 1.
        number: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Keeps what a feed reads from now on in a new file `KIND-NAME-SECONDS.rec`, on a thread of its own that ends with the
/// feed. When the file cannot be written any more the recording ends there, and the feed goes on.
///
/// # Errors
/// The file cannot be made, or somebody else records this feed.
pub fn keep(feed: &FeedHandle, dir: &Path) -> io::Result<PathBuf> {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '_'
        }
    };
    let name: String = feed.name.chars().map(plain).collect();
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("{}-{name}-{}.rec", feed.kind, unix_seconds()));
    let mut out = BufWriter::new(new_file(&path)?);
    let recording = feed
        .tap
        .open()
        .ok_or_else(|| io::Error::new(ErrorKind::ResourceBusy, "it is being recorded already"))?;
    write_header(&mut out, feed.kind, &feed.name)?;
    let shown = path.display().to_string();
    thread::Builder::new().name("record".into()).spawn(move || {
        if let Err(why) = write_all(&recording, &mut out) {
            warn!(file = shown, %why, "the recording ends here");
        }
    })?;
    Ok(path)
}

/// A new file that nobody else may read: routes say much about a network.
fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// A file that has whole chunks, whatever happens: what is cut when the disk is full is taken away again.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: PathBuf,
    whole: u64,
    chunks: u64,
    buffer: Vec<u8>,
}

/// A recording cannot begin, or ends here.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is something already.
    #[error("{0} exists: name another file, or say --force to replace it")]
    Exists(PathBuf),
    /// Not to be replaced by a file.
    #[error("{0} is no file, and is not replaced")]
    NoFile(PathBuf),
    /// It cannot be made.
    #[error("cannot make {path}: {why}")]
    Create {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// It cannot be written any further.
    #[error(
        "cannot write {path}: {why}. The recording ends here; its {chunks} pieces before this one are whole"
    )]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: io::Error,
        /// What it has.
        chunks: u64,
    },
}

impl Output {
    /// A new file with the first line. One that exists is replaced only with `force`.
    ///
    /// # Errors
    /// It exists, or cannot be made.
    pub fn create(path: &Path, force: bool, kind: &str, name: &str) -> Result<Output, OutputError> {
        let create = |why| OutputError::Create {
            path: path.to_path_buf(),
            why,
        };
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() || force && !there.is_file() => {
                return Err(OutputError::NoFile(path.to_path_buf()));
            }
            Ok(_) if force => fs::remove_file(path).map_err(create)?,
            Ok(_) => return Err(OutputError::Exists(path.to_path_buf())),
            // Said better by the attempt to make it.
            Err(_) => {}
        }
        let mut output = Output {
            file: new_file(path).map_err(create)?,
            path: path.to_path_buf(),
            whole: 0,
            chunks: 0,
            buffer: Vec::new(),
        };
        output.write(|out| write_header(out, kind, name))?;
        Ok(output)
    }

    /// One chunk.
    ///
    /// # Errors
    /// The file cannot be written any further.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), OutputError> {
        self.write(|out| write_chunk(out, chunk))?;
        self.chunks += 1;
        Ok(())
    }

    /// Chunks, and octets of the file.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        (self.chunks, self.whole)
    }

    fn write(&mut self, what: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Result<(), OutputError> {
        self.buffer.clear();
        let written = what(&mut self.buffer).and_then(|()| self.file.write_all(&self.buffer));
        match written {
            Ok(()) => {
                self.whole += self.buffer.len() as u64;
                Ok(())
            }
            Err(why) => {
                // Where even that fails, whoever reads it is told where it is cut.
                let _ = self.file.set_len(self.whole);
                Err(OutputError::Write {
                    path: self.path.clone(),
                    why,
                    chunks: self.chunks,
                })
            }
        }
    }
}

/// Writes until the feed has ended; what waits in memory goes to the file whenever nothing comes for a while.
fn write_all(recording: &Recording, out: &mut impl Write) -> io::Result<()> {
    loop {
        match recording.chunks.recv_timeout(FLUSH) {
            Ok(chunk) => write_chunk(out, &chunk)?,
            Err(RecvTimeoutError::Timeout) => out.flush()?,
            Err(RecvTimeoutError::Disconnected) => return out.flush(),
        }
    }
}

/// The first line.
///
/// # Errors
/// The file cannot be written.
pub fn write_header(out: &mut impl Write, kind: &str, name: &str) -> io::Result<()> {
    writeln!(out, "{MAGIC} {VERSION} {kind} {name}")
}

/// One chunk.
///
/// # Errors
/// The file cannot be written.
pub fn write_chunk(out: &mut impl Write, chunk: &Chunk) -> io::Result<()> {
    let kind = match chunk.kind {
        Kind::Begin => 0,
        Kind::Read => 1,
        Kind::End => 2,
        Kind::Missed => 3,
    };
    let length = u32::try_from(chunk.bytes.len())
        .ok()
        .filter(|length| *length <= MAX_CHUNK)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a chunk too long for a recording"))?;
    let nanoseconds = u64::try_from(chunk.at.as_nanos()).unwrap_or(u64::MAX);
    out.write_all(&nanoseconds.to_be_bytes())?;
    out.write_all(&[kind])?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&chunk.bytes)
}

/// A recording, read piece by piece.
#[derive(Debug)]
pub struct Player<R> {
    input: R,
    /// Kind of the feed.
    pub kind: String,
    /// Its name.
    pub name: String,
    number: u64,
    offset: u64,
}

impl<R: BufRead> Player<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is no recording.
    pub fn open(mut input: R) -> Result<Self, Error> {
        let mut line = Vec::new();
        input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        let text = str::from_utf8(&line).map_err(|_| Error::Header("its first line is no text".into()))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            // Or the rest of the line would be read as a chunk.
            [MAGIC, ..] if !line.ends_with(b"\n") => Err(Error::Header("its first line does not end".into())),
            [MAGIC, VERSION, kind, name] => Ok(Self {
                kind: kind.into(),
                name: name.into(),
                input,
                number: 0,
                offset: line.len() as u64,
            }),
            [MAGIC, VERSION, ..] => Err(Error::Header(
                "kind and name are missing in its first line".into(),
            )),
            [MAGIC, version, ..] => Err(Error::Header(format!(
                "version {version}, and this is version {VERSION}"
            ))),
            _ => Err(Error::Header(format!("it does not begin with {MAGIC}"))),
        }
    }

    /// The next chunk; `None` at the end.
    fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let offset = self.offset;
        let number = self.number;
        let wrong = |what| Error::Chunk { number, offset, what };
        let mut head = [0; 13];
        let cut = |error: io::Error| match error.kind() {
            ErrorKind::UnexpectedEof => wrong("the file ends inside it"),
            _ => Error::Io(error),
        };
        self.input.read_exact(&mut head).map_err(cut)?;
        let [t0, t1, t2, t3, t4, t5, t6, t7, kind, l0, l1, l2, l3] = head;
        let kind = match kind {
            0 => Kind::Begin,
            1 => Kind::Read,
            2 => Kind::End,
            3 => Kind::Missed,
            _ => return Err(wrong("of no known kind")),
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length > MAX_CHUNK {
            return Err(wrong("longer than 16 MiB"));
        }
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes).map_err(cut)?;
        self.offset += (head.len() + bytes.len()) as u64;
        Ok(Some(Chunk {
            at: Duration::from_nanos(u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
            kind,
            bytes,
        }))
    }
}

impl<R: BufRead> Iterator for Player<R> {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunk().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> (Vec<u8>, Vec<Chunk>) {
        let chunks = [
            (Kind::Begin, &b""[..]),
            (Kind::Read, b"octets"),
            (Kind::Missed, &[0; 8]),
            (Kind::End, b""),
        ];
        let chunks: Vec<Chunk> = (1..)
            .zip(chunks)
            .map(|(second, (kind, bytes))| Chunk {
                at: Duration::from_secs(second),
                kind,
                bytes: bytes.to_vec(),
            })
            .collect();
        let mut file = Vec::new();
        write_header(&mut file, "fpm", "127.0.0.1:2620").unwrap();
        for chunk in &chunks {
            write_chunk(&mut file, chunk).unwrap();
        }
        (file, chunks)
    }

    #[test]
    fn what_was_written_is_read() {
        let (file, chunks) = recording();
        let player = Player::open(&file[..]).unwrap();
        assert_eq!((&player.kind[..], &player.name[..]), ("fpm", "127.0.0.1:2620"));
        assert_eq!(player.map(Result::unwrap).collect::<Vec<_>>(), chunks);
    }

    #[test]
    fn a_file_cut_anywhere_says_where() {
        let (file, chunks) = recording();
        let header = file.iter().position(|octet| *octet == b'\n').unwrap() + 1;
        let mut whole = 0;
        for end in header..file.len() {
            let read: Vec<_> = Player::open(&file[..end]).unwrap().collect();
            match read.last() {
                Some(Err(Error::Chunk { number, offset, what })) => {
                    assert_eq!(*what, "the file ends inside it");
                    assert_eq!(*number, read.len() as u64);
                    assert!((*offset as usize) < end);
                }
                Some(Err(other)) => panic!("{other}"),
                _ => whole += 1,
            }
        }
        assert_eq!(whole, chunks.len(), "between two chunks, and before the first");
    }

    #[test]
    fn what_a_feed_reads_is_kept_until_it_ends() {
        let dir = std::env::temp_dir().join(format!("forwarder-record-{}", std::process::id()));
        let feed = FeedHandle {
            id: 1,
            kind: "bgp",
            name: "[2001:db8::1]:179".into(),
            counts: Default::default(),
            tap: Default::default(),
            answers: None,
        };
        let path = keep(&feed, &dir).unwrap();
        assert!(
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("bgp-_2001_db8__1__179-")
        );
        assert!(feed.tap.open().is_none(), "one records at a time");
        feed.tap.begin();
        feed.tap.read(b"octets");
        drop(feed);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let file = std::fs::read(&path).unwrap();
            let kinds: Vec<Kind> = match Player::open(&file[..]) {
                Ok(player) => player.map_while(Result::ok).map(|chunk| chunk.kind).collect(),
                Err(_) => Vec::new(),
            };
            if kinds == [Kind::Begin, Kind::Read] {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{kinds:?}");
            thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_is_for_its_owner_and_takes_nobodys_place_unasked() {
        use std::os::unix::fs::MetadataExt;

        let dir = std::env::temp_dir().join(format!("forwarder-output-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.rec");
        let create = |path: &Path, force| Output::create(path, force, "kernel", "kernel");
        let mut output = create(&path, false).unwrap();
        let chunk = Chunk::now(Kind::Read, b"octets");
        output.chunk(&chunk).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let file = fs::read(&path).unwrap();
        assert_eq!(output.written(), (1, file.len() as u64));
        let chunks: Vec<Chunk> = Player::open(&file[..]).unwrap().map(Result::unwrap).collect();
        assert_eq!(chunks, [chunk]);
        assert!(
            create(&path, false)
                .unwrap_err()
                .to_string()
                .contains("say --force")
        );
        assert_eq!(fs::read(&path).unwrap(), file);
        create(&path, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"forwarder-record 1 kernel kernel\n");
        let link = dir.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for other in [&dir, &link] {
            assert!(matches!(create(other, true), Err(OutputError::NoFile(_))));
        }
        assert!(matches!(create(&link, false), Err(OutputError::Exists(_))));
        assert!(matches!(
            create(&dir.join("absent/b.rec"), false),
            Err(OutputError::Create { .. })
        ));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_any_more_says_so_and_what_it_has() {
        // Open for reading only: every write fails, as on a full disk.
        let mut output = Output {
            file: File::open("/dev/null").unwrap(),
            path: "some.rec".into(),
            whole: 0,
            chunks: 7,
            buffer: Vec::new(),
        };
        let error = output.chunk(&Chunk::now(Kind::Begin, b"")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot write some.rec: "), "{text}");
        assert!(text.ends_with("its 7 pieces before this one are whole"), "{text}");
    }

    #[test]
    fn other_files_are_told_apart() {
        for (bytes, says) in [
            (&b""[..], "does not begin with forwarder-record"),
            (b"\xff\xfe", "its first line is no text"),
            (b"forwarder-record 1 fpm \xff\n", "its first line is no text"),
            (b"forwarder-record 2 fpm x\n", "version 2, and this is version 1"),
            (b"forwarder-record 1 fpm\n", "kind and name are missing"),
            (b"forwarder-record 1 fpm x", "its first line does not end"),
            (
                &[&b"forwarder-record 1 fpm "[..], &[b'x'; 2_000]].concat(),
                "its first line does not end",
            ),
        ] {
            let error = Player::open(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
