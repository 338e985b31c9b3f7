//! Everything that is in the machine, in one archive: there is no disk.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufWriter,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use vm_init::plan::{self, Plan};

use super::{
    chosen::{self, Tests},
    cpio::Archive,
    modules,
    packages::Kernel,
};
#[cfg(test)]
use crate::setup;
use crate::sh;

/// Programs that tests run, or a person in the shell; `cargo xtask setup` installs them.
const PROGRAMS: [&str; 20] = [
    "bash",
    "bird",
    "birdc",
    "bridge",
    "busybox",
    "ethtool",
    "ip",
    "keepalived",
    "mount",
    "nft",
    "nsenter",
    "ping",
    "setpriv",
    "setsid",
    "sh",
    "tc",
    "tcpdump",
    "traceroute",
    "umount",
    "unshare",
];

/// Names of numbers that these programs read, where the system has them.
const NAMES: [&str; 3] = ["/etc/iproute2", "/usr/share/iproute2", "/etc/protocols"];

/// The few users there are: daemons look for root.
const FILES: [(&str, &str); 4] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost vm\n::1 localhost\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\n",
    ),
];

const FORWARDER: &str = "/usr/bin/forwarder";

/// Writes the archive for a kernel and returns its file.
///
/// # Errors
/// A program is not there, or a file cannot be read or written.
pub fn build(dir: &Path, kernel: &Kernel, tests: &Tests, mut plan: Plan) -> Result<PathBuf> {
    let path = dir.join("initramfs.cpio");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut room = Room {
        archive: Archive::new(BufWriter::new(file)),
        libraries: BTreeSet::new(),
    };
    room.skeleton()?;
    for module in modules::in_order(&kernel.modules)? {
        let path = format!("/lib/modules/{}.ko", module.name);
        // By its real directory, as for everything else below.
        room.archive
            .file(&format!("/usr{path}"), &modules::octets(&module.file)?)?;
        plan.modules.push(plan::Module {
            path,
            options: module.options.to_owned(),
        });
    }
    let stripped = sh::target_dir()?.join("vm/stripped");
    room.program("/init", &strip(&tests.init, &stripped)?)?;
    room.program(FORWARDER, &strip(&tests.forwarder, &stripped)?)?;
    for (name, value) in [("FORWARDER_BIN", FORWARDER)]
        .into_iter()
        .chain(chosen::ENVIRONMENT)
    {
        plan.environment.push((name.to_owned(), value.to_owned()));
    }
    for (binary, file) in &tests.binaries {
        room.program(&binary.path, &strip(file, &stripped)?)?;
        plan.binaries.push(binary.clone());
    }
    for name in PROGRAMS {
        let file = sh::which(name).with_context(|| format!("no {name} here: cargo xtask setup"))?;
        room.program(&real_place(&file)?, &file)?;
    }
    room.applets()?;
    room.archive.file(plan::PATH, plan.to_string().as_bytes())?;
    room.archive.finish()?;
    Ok(path)
}

struct Room {
    archive: Archive<BufWriter<File>>,
    libraries: BTreeSet<PathBuf>,
}

impl Room {
    fn skeleton(&mut self) -> Result<()> {
        for name in ["bin", "lib", "lib64", "sbin"] {
            self.archive.directory(&format!("/usr/{name}"))?;
            self.archive.link(&format!("/{name}"), &format!("usr/{name}"))?;
        }
        for place in [
            "/dev",
            "/etc/netns",
            "/proc",
            "/root",
            "/run",
            "/sys",
            "/tmp",
            "/var",
        ] {
            self.archive.directory(place)?;
        }
        self.archive.link("/var/run", "/run")?;
        // The first process has it as its standard output before anything is mounted.
        self.archive.device("/dev/console", (5, 1))?;
        for (path, text) in FILES {
            self.archive.file(path, text.as_bytes())?;
        }
        for place in NAMES {
            self.copy(Path::new(place))?;
        }
        Ok(())
    }

    fn copy(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
                self.copy(&entry.with_context(|| path.display().to_string())?.path())?;
            }
        } else if path.is_file() {
            let octets = fs::read(path).with_context(|| path.display().to_string())?;
            self.archive.file(&path.to_string_lossy(), &octets)?;
        }
        Ok(())
    }

    /// A program, and the libraries that it needs.
    fn program(&mut self, place: &str, file: &Path) -> Result<()> {
        let octets = fs::read(file).with_context(|| file.display().to_string())?;
        self.archive.file(place, &octets)?;
        for library in libraries(file)? {
            if self.libraries.insert(library.clone()) {
                let octets = fs::read(&library).with_context(|| library.display().to_string())?;
                self.archive.file(&real_place(&library)?, &octets)?;
            }
        }
        Ok(())
    }

    /// What busybox can be, where nothing else has the name.
    fn applets(&mut self) -> Result<()> {
        let names = sh::output(Command::new("busybox").arg("--list")).context("busybox does not run")?;
        for name in names.lines() {
            let taken = ["bin", "sbin"]
                .iter()
                .any(|dir| self.archive.has(&format!("/usr/{dir}/{name}")));
            if !taken {
                self.archive.link(&format!("/usr/bin/{name}"), "/bin/busybox")?;
            }
        }
        Ok(())
    }
}

/// Where a file stands when the directories on its way are no links: /bin/ip is /usr/bin/ip. The name itself stays, as
/// programs and libraries are found by it.
fn real_place(file: &Path) -> Result<String> {
    let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else {
        bail!("{} is no file", file.display());
    };
    let parent = fs::canonicalize(parent).with_context(|| parent.display().to_string())?;
    Ok(parent.join(name).to_string_lossy().into_owned())
}

/// The shared libraries of a program, the loader among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("not a dynamic executable")
        || text.contains("statically linked")
        || !output.status.success()
    {
        return Ok(Vec::new());
    }
    let found = paths(&text);
    ensure!(
        !text.contains("not found"),
        "{}: a library is missing\n{text}",
        program.display()
    );
    Ok(found)
}

/// `libc.so.6 => /lib/libc.so.6 (0x7f)` and `/lib64/ld-linux-x86-64.so.2 (0x7f)`; the vDSO has no path.
fn paths(text: &str) -> Vec<PathBuf> {
    let words = text.split_whitespace();
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The file without debug information, made once for each version of it.
fn strip(file: &Path, dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let name = file.file_name().unwrap_or_default();
    let to = dir.join(name);
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let fresh = time(&to).is_some_and(|stripped| Some(stripped) > time(file));
    if !fresh {
        // Those of earlier builds have another hash after the same name.
        let stem = name
            .as_bytes()
            .split(|octet| *octet == b'-')
            .next()
            .unwrap_or_default();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let old = entry.file_name();
            if old.as_bytes().split(|octet| *octet == b'-').next() == Some(stem) {
                let _ = fs::remove_file(entry.path());
            }
        }
        sh::run(Command::new("strip").arg("-o").arg(&to).arg(file))?;
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_and_the_loader() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            paths(text),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
    }

    #[test]
    fn every_program_is_one_that_setup_installs() {
        let everywhere = ["bash", "sh"];
        for name in PROGRAMS {
            assert!(
                everywhere.contains(&name) || setup::installs(name),
                "not in setup's PROGRAMS: {name}"
            );
        }
    }
}
