//! The Unix socket: ours alone, readable by its group, gone when we are.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
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
    pub fn bind(path: &Path) -> Result<Bound> {
        let shown = path.display();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
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
            fs::set_permissions(&new, fs::Permissions::from_mode(MODE))?;
            let inode = fs::symlink_metadata(&new)?.ino();
            fs::rename(&new, path)?;
            Ok::<u64, std::io::Error>(inode)
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
