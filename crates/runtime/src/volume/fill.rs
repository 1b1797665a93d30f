//! The first content of a volume: a copy of what the image has where the volume is mounted, as docker does it.
//!
//! The copy is made beside the volume's data and moved over it whole, so that a crash leaves the volume empty and not
//! half full. It refuses to follow links, and to bring anything but directories, files and links: what an image has as
//! device nodes, sockets and FIFOs stays behind.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};

/// Who files of the image belong to, as this process sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// To those whom the image names.
    AsInImage,
    /// To those whom the image names, shifted by a user namespace: this is its root here. Volumes keep what the image
    /// says.
    Shifted {
        /// Id of the namespace's root, user and group alike.
        first: u32,
        /// How many ids it has.
        count: u32,
    },
}

/// Which file could not be copied, and why.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be copied", path.display())]
pub struct FillError {
    /// The file of the image, or the one that was to be made.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Who nobody is: ids outside of the namespace's range belong to this one.
const NOBODY: u32 = 65_534;

/// Copies `content` (a directory that nobody changes meanwhile) into the directory `data`, if that is empty.
pub(super) fn fill(data: &Path, content: &Path, ownership: Ownership) -> Result<(), FillError> {
    let mut entries = fs::read_dir(data).map_err(at(data))?;
    if entries.next().is_some() {
        return Ok(());
    }
    let first = data.with_file_name("first");
    match fs::remove_dir_all(&first) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&first)(error)),
        _ => {}
    }
    copy_directory(content, &first, ownership)?;
    // Over an empty directory: rename(2) replaces it at once.
    fs::rename(&first, data).map_err(at(data))
}

fn copy_directory(from: &Path, to: &Path, ownership: Ownership) -> Result<(), FillError> {
    let metadata = fs::metadata(from).map_err(at(from))?;
    DirBuilder::new().mode(0o700).create(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        copy(&entry.path(), &to.join(entry.file_name()), ownership)?;
    }
    dress(&metadata, from, to, ownership).map_err(at(to))
}

fn copy(from: &Path, to: &Path, ownership: Ownership) -> Result<(), FillError> {
    let metadata = fs::symlink_metadata(from).map_err(at(from))?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return copy_directory(from, to, ownership);
    }
    if kind.is_symlink() {
        let target = fs::read_link(from).map_err(at(from))?;
        symlink(target, to).map_err(at(to))?;
    } else if kind.is_file() {
        copy_file(from, to).map_err(at(from))?;
    } else {
        return Ok(());
    }
    dress(&metadata, from, to, ownership).map_err(at(to))
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut to = File::create_new(to)?;
    io::copy(&mut File::open(from)?, &mut to).map(drop)
}

/// Gives the copy its owner, its mode, its attributes and its time; in this order, as each takes away from the next.
fn dress(metadata: &Metadata, from: &Path, to: &Path, ownership: Ownership) -> io::Result<()> {
    let (uid, gid) = (ownership.inside(metadata.uid()), ownership.inside(metadata.gid()));
    lchown(to, Some(uid), Some(gid))?;
    if !metadata.is_symlink() {
        fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777))?;
        for name in xattr::list(from)?.filter(|name| name.as_encoded_bytes().starts_with(b"user.")) {
            if let Some(value) = xattr::get(from, &name)? {
                xattr::set(to, &name, &value)?;
            }
        }
    }
    let modified = TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
    utimensat(AT_FDCWD, to, &modified, &modified, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

impl Ownership {
    /// Whom the image names, for an id as this process sees it.
    fn inside(self, id: u32) -> u32 {
        match self {
            Self::AsInImage => id,
            Self::Shifted { first, count } => {
                id.checked_sub(first).filter(|inside| *inside < count).unwrap_or(NOBODY)
            }
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FillError {
    move |source| FillError { path: path.to_owned(), source }
}
