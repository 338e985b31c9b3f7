//! Lists of bogons in files, read anew when they change.
//!
//! A thread looks at the files every two seconds: so one on a share that hangs holds nobody up. It reads one that is another
//! than it was, by any of what stat(2) tells, and looks the same twice: one that is still being written waits. What it read
//! goes to the controller's loop, which puts it in force, or keeps the list that is where that cannot be.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use ipnet::IpNet;
use tracing::{info, warn};

use super::state::BogonList;
use crate::{
    config::{ConfigError, FilterConfig, read_list},
    filter::sources::{BOGONS_DATE, BOGONS4, BOGONS6, FilterError},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The lists, as they are in force.
pub struct Bogons {
    built_in: bool,
    configured: Vec<IpNet>,
    files: Vec<List>,
    news: Receiver<News>,
    again: Sender<()>,
}

struct List {
    path: PathBuf,
    /// What is in force of it.
    prefixes: Vec<IpNet>,
    /// When that was read, seconds since 1970.
    read: u64,
    /// What was read since, and found no room.
    waiting: Option<Vec<IpNet>>,
    /// Why what is in force is not what stands in the file.
    fault: Option<String>,
}

/// A file was read again.
struct News {
    number: usize,
    result: Result<Vec<IpNet>, String>,
}

impl Bogons {
    /// Reads every list, and watches them from now on.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn start(config: &FilterConfig, now: u64) -> Result<Bogons> {
        let mut watched = Vec::new();
        let mut files = Vec::new();
        for path in &config.bogon_files {
            // Before it is read: what is written meanwhile is seen.
            watched.push(Watched::new(path.clone()));
            files.push(List {
                path: path.clone(),
                prefixes: read_list(path)?,
                read: now,
                waiting: None,
                fault: None,
            });
        }
        let (again, asked) = mpsc::channel();
        let (tell, news) = mpsc::channel();
        if !watched.is_empty() {
            thread::Builder::new()
                .name("bogons".into())
                .spawn(move || watch(watched, &asked, &tell))
                .context("cannot start the thread that reads lists of bogons")?;
        }
        Ok(Bogons {
            built_in: config.bogons,
            configured: config.bogon_prefixes.clone(),
            files,
            news,
            again,
        })
    }

    /// What reads all files again, whether they have changed or not.
    pub fn again(&self) -> impl Fn() + Send + 'static {
        let again = self.again.clone();
        move || match again.send(()) {
            Ok(()) => info!("SIGHUP: reading the lists of bogons"),
            Err(_) => {
                info!("SIGHUP: there is no list of bogons to read")
            }
        }
    }

    /// Every prefix of the lists.
    pub fn listed(&self) -> Arc<Vec<IpNet>> {
        let lists = self.files.iter().map(|list| &list.prefixes);
        Arc::new(lists.fold(self.configured.clone(), |mut all, list| {
            all.extend(list);
            all
        }))
    }

    /// Takes what was read since, and puts it in force by `force`, which answers why it is not.
    pub fn turn(&mut self, now: u64, mut force: impl FnMut(Arc<Vec<IpNet>>) -> Result<(), FilterError>) {
        let mut changed = false;
        while let Ok(News { number, result }) = self.news.try_recv() {
            let list = &mut self.files[number];
            match result {
                Ok(prefixes) => {
                    list.waiting = Some(prefixes);
                    changed = true;
                }
                Err(why) => {
                    warn!("{why}. The {} bogons of it stay in force", list.prefixes.len());
                    list.waiting = None;
                    list.fault = Some(why);
                }
            }
        }
        if !changed {
            return;
        }
        // All together, as one may have room only where another has become shorter; else each that does by itself.
        let waiting = |list: &List| list.waiting.is_some();
        let numbers: Vec<usize> = (0..self.files.len())
            .filter(|n| waiting(&self.files[*n]))
            .collect();
        let refused = match self.exchange(&numbers, now, &mut force) {
            Ok(()) => return,
            Err(why) if numbers.len() == 1 => vec![(numbers[0], why)],
            Err(_) => {
                let mut alone =
                    |number: &usize| Some((*number, self.exchange(&[*number], now, &mut force).err()?));
                numbers.iter().filter_map(&mut alone).collect()
            }
        };
        for (number, why) in refused {
            let list = &mut self.files[number];
            let (many, kept) = (list.waiting.as_ref().map_or(0, Vec::len), list.prefixes.len());
            let fault = format!(
                "{}: {many} prefixes stand there now, and {why}",
                list.path.display()
            );
            if list.fault.as_ref() != Some(&fault) {
                warn!("{fault}. The {kept} bogons of it stay in force");
                list.fault = Some(fault);
            }
        }
    }

    /// Puts what waits of these files in force, or nothing of it.
    fn exchange(
        &mut self,
        numbers: &[usize],
        now: u64,
        force: &mut impl FnMut(Arc<Vec<IpNet>>) -> Result<(), FilterError>,
    ) -> Result<(), FilterError> {
        let swap = |files: &mut Vec<List>| {
            for number in numbers {
                let list = &mut files[*number];
                if let Some(waiting) = &mut list.waiting {
                    std::mem::swap(waiting, &mut list.prefixes);
                }
            }
        };
        swap(&mut self.files);
        if let Err(why) = force(self.listed()) {
            swap(&mut self.files);
            return Err(why);
        }
        for number in numbers {
            let list = &mut self.files[*number];
            list.waiting = None;
            list.fault = None;
            list.read = now;
            info!(file = %list.path.display(), prefixes = list.prefixes.len(), "list of bogons in force");
        }
        Ok(())
    }

    /// What is in force, and where it is from.
    pub fn lists(&self) -> Vec<BogonList> {
        let count = |nets: &[IpNet]| {
            let six = nets.iter().filter(|net| net.addr().is_ipv6()).count();
            ((nets.len() - six) as u64, six as u64)
        };
        let row = |kind: &str, name: String, (ipv4, ipv6)| BogonList {
            kind: kind.into(),
            name,
            ipv4,
            ipv6,
            ..BogonList::default()
        };
        let mut rows = Vec::new();
        if self.built_in {
            let counts = (BOGONS4.len() as u64, BOGONS6.len() as u64);
            rows.push(row("built-in", format!("IANA {BOGONS_DATE}"), counts));
        }
        if !self.configured.is_empty() {
            rows.push(row("config", "bogon-prefixes".into(), count(&self.configured)));
        }
        rows.extend(self.files.iter().map(|list| BogonList {
            read: Some(list.read),
            why: list.fault.clone(),
            ..row("file", list.path.display().to_string(), count(&list.prefixes))
        }));
        rows
    }

    /// What is wrong with the files, in sentences.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.files.iter().filter_map(|list| {
            let why = list.fault.as_ref()?;
            let kept = list.prefixes.len();
            Some(format!(
                "list of bogons {why}. The {kept} prefixes of it that were read before stay in force"
            ))
        })
    }
}

/// What a file looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Device and inode, length, and when it was written and changed.
    File([u64; 2], u64, [(i64, i64); 2]),
    /// It cannot be looked at.
    Nothing(io::ErrorKind),
}

impl Seen {
    fn look(path: &Path) -> Seen {
        match fs::metadata(path) {
            Ok(file) => Seen::File(
                [file.dev(), file.ino()],
                file.len(),
                [
                    (file.mtime(), file.mtime_nsec()),
                    (file.ctime(), file.ctime_nsec()),
                ],
            ),
            Err(why) => Seen::Nothing(why.kind()),
        }
    }
}

/// A file that is looked at again and again.
struct Watched {
    path: PathBuf,
    /// What it looked like when it was read.
    read: Seen,
    /// What it looked like last.
    last: Seen,
}

impl Watched {
    fn new(path: PathBuf) -> Watched {
        let seen = Seen::look(&path);
        Watched {
            path,
            read: seen.clone(),
            last: seen,
        }
    }

    /// Whether it is to be read, as it looks now: it is another than was read, and has come to rest.
    fn is_due(&mut self, seen: Seen) -> bool {
        let rests = self.last == seen;
        self.last = seen;
        rests && self.last != self.read
    }

    /// Reads it, unless it is being written meanwhile.
    fn read(&mut self) -> Option<Result<Vec<IpNet>, ConfigError>> {
        let before = Seen::look(&self.path);
        let result = read_list(&self.path);
        self.last = Seen::look(&self.path);
        if self.last != before {
            return None;
        }
        self.read = before;
        Some(result)
    }
}

/// Looks at the files until nobody wants to know.
fn watch(mut files: Vec<Watched>, asked: &Receiver<()>, tell: &Sender<News>) {
    loop {
        let all = match asked.recv_timeout(LOOK) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for (number, file) in files.iter_mut().enumerate() {
            let seen = Seen::look(&file.path);
            if !file.is_due(seen) && !all {
                continue;
            }
            let Some(result) = file.read() else { continue };
            let result = result.map_err(|why| why.in_a_line());
            if tell.send(News { number, result }).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().expect("prefix")).collect()
    }

    /// Two files with a prefix each, and what tells that they were read.
    fn bogons() -> (Bogons, Sender<News>) {
        let list = |path: &str, prefix| List {
            path: path.into(),
            prefixes: nets(&[prefix]),
            read: 1,
            waiting: None,
            fault: None,
        };
        let (tell, news) = mpsc::channel();
        let bogons = Bogons {
            built_in: true,
            configured: nets(&["5.0.0.0/8"]),
            files: vec![list("/a", "6.0.0.0/8"), list("/b", "2a00::/16")],
            news,
            again: mpsc::channel().0,
        };
        (bogons, tell)
    }

    fn read(number: usize, list: &[&str]) -> News {
        News {
            number,
            result: Ok(nets(list)),
        }
    }

    /// A filter with room for so many prefixes.
    fn room(most: usize) -> impl FnMut(Arc<Vec<IpNet>>) -> Result<(), FilterError> {
        move |listed| match listed.len() <= most {
            true => Ok(()),
            false => Err(FilterError::Full),
        }
    }

    #[test]
    fn a_list_that_was_read_anew_replaces_the_one_in_force() {
        let (mut bogons, tell) = bogons();
        assert_eq!(*bogons.listed(), nets(&["5.0.0.0/8", "6.0.0.0/8", "2a00::/16"]));
        let mut forced = Vec::new();
        tell.send(read(0, &["7.0.0.0/8", "2a01::/16"])).expect("taken");
        bogons.turn(9, |listed| {
            forced.push(listed);
            Ok(())
        });
        let wanted = nets(&["5.0.0.0/8", "7.0.0.0/8", "2a01::/16", "2a00::/16"]);
        assert_eq!(forced, [Arc::new(wanted)]);
        let rows = bogons.lists();
        let row = |n: usize| {
            (
                rows[n].kind.as_str(),
                rows[n].name.as_str(),
                rows[n].ipv4,
                rows[n].ipv6,
            )
        };
        assert_eq!(row(1), ("config", "bogon-prefixes", 1, 0));
        assert_eq!(row(2), ("file", "/a", 1, 1));
        assert_eq!(
            (rows[0].kind.as_str(), rows[2].read, rows[3].read),
            ("built-in", Some(9), Some(1))
        );
        bogons.turn(10, |_| unreachable!("nothing is new"));
    }

    #[test]
    fn a_list_that_cannot_be_read_keeps_the_one_in_force_until_it_can() {
        let (mut bogons, tell) = bogons();
        let bad = News {
            number: 0,
            result: Err("/a, line 1, column 1: `x` is not a prefix".into()),
        };
        tell.send(bad).expect("taken");
        bogons.turn(9, |_| unreachable!("nothing to put in force"));
        assert_eq!(*bogons.listed(), nets(&["5.0.0.0/8", "6.0.0.0/8", "2a00::/16"]));
        let problems: Vec<String> = bogons.problems().collect();
        assert_eq!(
            problems,
            [
                "list of bogons /a, line 1, column 1: `x` is not a prefix. The 1 prefixes of it that were read before stay in force"
            ]
        );
        assert!(bogons.lists()[2].why.is_some());
        tell.send(read(0, &["7.0.0.0/8"])).expect("taken");
        bogons.turn(10, room(3));
        assert_eq!(bogons.problems().count(), 0);
    }

    #[test]
    fn a_list_without_room_waits_until_another_leaves_some() {
        let (mut bogons, tell) = bogons();
        tell.send(read(0, &["7.0.0.0/8", "8.0.0.0/8", "9.0.0.0/8"]))
            .expect("taken");
        bogons.turn(9, room(4));
        assert_eq!(*bogons.listed(), nets(&["5.0.0.0/8", "6.0.0.0/8", "2a00::/16"]));
        let problem = bogons.problems().next().expect("a problem");
        assert!(
            problem.contains("/a: 3 prefixes stand there now, and the source filter has no room"),
            "{problem}"
        );
        // The other does not wait with it.
        tell.send(read(1, &["2a02::/16", "2a03::/16"])).expect("taken");
        bogons.turn(10, room(4));
        assert_eq!(bogons.listed()[2..], nets(&["2a02::/16", "2a03::/16"]));
        assert_eq!(bogons.problems().count(), 1);
        tell.send(read(1, &[])).expect("taken");
        bogons.turn(11, room(4));
        assert_eq!(bogons.listed().len(), 4);
        assert_eq!(bogons.problems().count(), 0);
    }

    #[test]
    fn a_file_is_read_when_it_is_another_and_has_come_to_rest() {
        let file = |length| Seen::File([1, 2], length, [(0, 0); 2]);
        let mut watched = Watched {
            path: "/a".into(),
            read: file(1),
            last: file(1),
        };
        assert!(!watched.is_due(file(1)));
        assert!(!watched.is_due(file(2)), "it may be half of it");
        assert!(!watched.is_due(file(3)));
        assert!(watched.is_due(file(3)));
        watched.read = file(3);
        assert!(!watched.is_due(file(3)));
        let gone = Seen::Nothing(io::ErrorKind::NotFound);
        assert!(!watched.is_due(gone.clone()), "it may be on its way");
        assert!(watched.is_due(gone));
        assert!(
            !watched.is_due(file(3)) && !watched.is_due(file(3)),
            "the same again"
        );
    }
}
