//! Where pictures go: into a new file, in the place of a picture of ours, or to a device, and over nothing else.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use forwarder_history::plot::MARK;

/// Writes a picture: all of it or nothing.
pub fn write(path: &Path, svg: &str) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    match fs::metadata(path) {
        Ok(metadata) => {
            let kind = metadata.file_type();
            // "/dev/stdout", or a pipe that somebody reads.
            if kind.is_char_device() || kind.is_fifo() {
                let mut device = OpenOptions::new().write(true).open(path).with_context(cannot)?;
                return device.write_all(svg.as_bytes()).with_context(cannot);
            }
            if !kind.is_file() {
                bail!("{} is no file: name one for the picture", path.display());
            }
            if !is_ours(path).with_context(cannot)? {
                bail!(
                    "{} is there and is no picture of a report: it is left as it is; name another file, or remove it",
                    path.display()
                );
            }
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why).with_context(cannot),
    }
    // A link's file is what is replaced, and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let new = beside(&path);
    let written = File::create_new(&new).and_then(|mut file| file.write_all(svg.as_bytes()));
    let moved = written.and_then(|()| fs::rename(&new, &path));
    if moved.is_err() {
        let _ = fs::remove_file(&new);
    }
    moved.with_context(cannot)
}

/// Whether a report drew it.
fn is_ours(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(1_024).read_to_end(&mut head)?;
    Ok(head.starts_with(b"<svg ") && head.windows(MARK.len()).any(|here| here == MARK.as_bytes()))
}

/// A name in the same directory that nobody has.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use forwarder_history::plot::Lines;

    use super::*;

    fn svg(title: &str) -> String {
        Lines {
            title: title.into(),
            notes: vec![],
            panels: vec![],
            ticks: vec![],
        }
        .svg()
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("readable")
    }

    #[test]
    fn a_picture_replaces_a_picture_of_ours_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("bill.svg");
        for title in ["first", "second"] {
            write(&path, &svg(title)).expect("room");
            assert_eq!(read(&path), svg(title));
        }
        let link = directory.path().join("link.svg");
        symlink(&path, &link).expect("room");
        write(&link, &svg("third")).expect("room");
        assert!(link.is_symlink());
        assert_eq!(read(&path), svg("third"));
        write(Path::new("/dev/null"), &svg("nothing")).expect("a device");
        for (name, text) in [
            ("history.db", "SQLite format 3\0"),
            ("logo.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>"),
            ("empty", ""),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("room");
            let why = write(&path, &svg("x")).expect_err("refused").to_string();
            assert!(why.contains("is no picture of a report"), "{why}");
            assert_eq!(read(&path), text);
        }
        let why = write(directory.path(), &svg("x"))
            .expect_err("refused")
            .to_string();
        assert!(why.contains("is no file"), "{why}");
        assert!(write(&directory.path().join("no/such.svg"), &svg("x")).is_err());
        let left = fs::read_dir(directory.path()).expect("readable");
        let left = left.filter(|entry| {
            let name = entry.as_ref().expect("readable").file_name();
            name.to_string_lossy().ends_with(".new")
        });
        assert_eq!(left.count(), 0);
    }
}
