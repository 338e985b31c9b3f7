//! The Unix socket: ours alone, readable by its group, gone when we are.

use std::{
    ffi::CString,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tokio::net::UnixListener;

/// Owner and group may read and ask.
const MODE: u32 = 0o660;

/// A listening socket and its file.
pub struct Bound {
    pub listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Bound {
    /// Listens at `path`. The file of a dead controller is replaced, that of a live one is an error.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Bound> {
        let shown = path.display();
        let group = group.map(group_id).transpose()?;
        if let Some(parent) = path.parent() {
            directory(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        if let Ok(known) = fs::symlink_metadata(path) {
            if !known.file_type().is_socket() {
                bail!("{shown} exists and is no socket: remove it, or name another with --socket");
            }
            match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => {
                    bail!("another controller answers on {shown}: stop it, or name another with --socket")
                }
                Err(why) if why.kind() == ErrorKind::ConnectionRefused => {}
                Err(why) => {
                    return Err(why).with_context(|| format!("cannot tell whether {shown} is in use"));
                }
            }
        }
        // Made under another name and renamed when its mode is right, so that there is no moment at which it is wrong.
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new).with_context(|| format!("cannot listen on {shown}"))?;
        let finish = || {
            if group.is_some() {
                chown(&new, None, group).map_err(group_refusal)?;
            }
            fs::set_permissions(&new, fs::Permissions::from_mode(MODE))?;
            let inode = fs::symlink_metadata(&new)?.ino();
            fs::rename(&new, path)?;
            Ok::<u64, io::Error>(inode)
        };
        let inode = finish().with_context(|| format!("cannot listen on {shown}"))?;
        Ok(Bound {
            listener,
            path: path.to_path_buf(),
            inode,
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Not the socket of a controller that took our place.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket's directory, where there is none, so that others can enter it: the socket says who may speak, and the process's
/// umask leaves nobody else anything.
fn directory(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// What to do where the socket cannot be given to its group.
fn group_refusal(why: io::Error) -> io::Error {
    if why.kind() != ErrorKind::PermissionDenied {
        return why;
    }
    io::Error::other(format!(
        "{why}: a reload cannot give it to another group, a restart can; in the service, name the group in \
         SupplementaryGroups="
    ))
}

/// Octets for a group's entry; one with so many members that it does not fit is tried again with twice as many.
const ENTRY: usize = 4096;
const ENTRY_MOST: usize = 1 << 20;

/// The number of a group.
///
/// # Errors
/// There is none of this name, or the system does not tell.
pub fn group_id(name: &str) -> Result<u32> {
    let word = CString::new(name).with_context(|| format!("{name:?} is no name of a group"))?;
    let mut room = ENTRY;
    loop {
        let mut buffer = vec![0; room];
        // SAFETY: all zeros is a value of this structure of numbers and pointers.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is to memory of ours that outlives the call, the buffer as long as it says.
        let errno = unsafe {
            libc::getgrnam_r(
                word.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match errno {
            0 if !found.is_null() => return Ok(entry.gr_gid),
            libc::ERANGE if room < ENTRY_MOST => room *= 2,
            0 | libc::ENOENT => {
                bail!(
                    "there is no group {name:?}: make it (groupadd --system {name}), or name another as group in [api]"
                )
            }
            errno => {
                return Err(io::Error::from_raw_os_error(errno))
                    .with_context(|| format!("cannot look up the group {name:?}"));
            }
        }
    }
}
