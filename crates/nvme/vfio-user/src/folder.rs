//! Where a server's socket is: `cntrl` in a folder that nobody else enters.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::ServerError;

/// The socket's name, which SPDK's client adds to the address that it is given.
const SOCKET: &str = "cntrl";

/// Where the socket of this folder is.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

fn system<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ServerError + 'a {
    move |why| ServerError::System {
        what,
        path: path.to_owned(),
        why,
    }
}

/// The socket of a server, listening; its file goes when this is dropped, unless another has taken its place.
pub(crate) struct Place {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Place {
    /// Makes the folder where it is missing, takes away a socket that nobody listens on, and listens.
    pub(crate) fn take(folder: &Path) -> Result<Place, ServerError> {
        private(folder)?;
        let path = socket(folder);
        make_room(&path)?;
        let listener = UnixListener::bind(&path).map_err(system("listen at", &path))?;
        listener
            .set_nonblocking(true)
            .map_err(system("listen at", &path))?;
        let file = identity(&path).map_err(system("look at", &path))?;
        Ok(Place {
            listener,
            path,
            file,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // Where it cannot be removed the next server will find it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// A folder of this user's that nobody else may enter, made if need be.
fn private(folder: &Path) -> Result<(), ServerError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
            return Err(system("make the folder", folder)(why));
        }
        _ => {}
    }
    // Of the place itself: a link could be turned elsewhere afterwards.
    let found = fs::symlink_metadata(folder).map_err(system("look at", folder))?;
    let open = |found: String| {
        Err(ServerError::Open {
            folder: folder.to_owned(),
            found,
        })
    };
    let (user, mode) = (found.uid(), found.mode() & 0o777);
    if !found.is_dir() {
        return open("it is no folder".to_owned());
    }
    if user != geteuid().as_raw() {
        return open(format!("it belongs to user {user}"));
    }
    if mode & 0o077 != 0 {
        return open(format!("its mode is {mode:04o}"));
    }
    Ok(())
}

fn make_room(path: &Path) -> Result<(), ServerError> {
    let taken = |found| {
        Err(ServerError::Taken {
            path: path.to_owned(),
            found,
        })
    };
    match fs::symlink_metadata(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(system("look at", path)(why)),
        Ok(found) if !found.file_type().is_socket() => {
            taken("something is there that is no socket")
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => taken("another server listens there"),
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(system("remove the stale socket", path))
            }
            Err(why) => Err(system("look who listens at", path)(why)),
        },
    }
}
