//! Unpacks one layer into an empty directory, as an overlayfs lower directory (OCI image spec, layer.md).
//!
//! ```text
//!   blob -> decompress -> count + hash -> tar members -> confined directory
//! ```
//!
//! Members come from strangers. It refuses what honest images don't have: names that climb, devices other than those
//! every container gets anyway, overlayfs's own attributes, sizes beyond the limits. Within the layer's directory it
//! does what tar and docker do. It knows nothing of digests: the caller compares the one it returns.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use hypercore_copy::{
    archive::{Archive, ArchiveError, Member, MemberKind},
    path::MemberPath,
    shown::shown_bytes,
};
use hypercore_model::Digest;
use nix::{
    errno::Errno,
    sys::{
        stat::{Mode, SFlag, makedev},
        time::TimeSpec,
    },
};

mod error;
mod stream;
mod tree;
mod whiteout;

pub use error::UnpackError;

use super::layout::expect_room;
use stream::{Metered, StreamTooLong};
use tree::{Place, Tree, is_kind};
use whiteout::Whiteout;

/// Bytes copied into a file at a time.
const COPY_BYTES: usize = 128 * 1024;
/// About what a file costs beside its content, in bytes.
const INODE_BYTES: usize = 512;
/// Bytes written between two looks at the room on the disk.
const CHECK_ROOM_EVERY_BYTES: usize = 16 * 1024 * 1024;
/// Devices that every container gets from its runtime anyway, as (major, minor): null, zero, full, random, urandom,
/// tty, console, ptmx (kernel, devices.txt).
const HARMLESS_DEVICES: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];

/// What a layer may grow to.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnpackLimits {
    /// Most bytes of the uncompressed stream.
    pub(super) bytes_max: u64,
    /// Most members.
    pub(super) members_max: u64,
    /// Most bytes of all directories' names together, which are kept in memory to the end.
    pub(super) directory_names_bytes_max: usize,
}

/// Bytes that any layer may unpack to, however small it is.
const BYTES_FREE_OF_RATIO: u64 = 1024 * 1024 * 1024;
/// How many times its compressed size a larger layer may unpack to: gzip can't do more, and what does is a bomb.
const COMPRESSION_RATIO_MAX: u64 = 1100;

impl UnpackLimits {
    /// The limits of a layer with that many compressed bytes.
    pub(super) fn of_blob(bytes: u64) -> Self {
        let limits = Self::default();
        let by_ratio = bytes.saturating_mul(COMPRESSION_RATIO_MAX).max(BYTES_FREE_OF_RATIO);
        Self { bytes_max: limits.bytes_max.min(by_ratio), ..limits }
    }
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            bytes_max: 64 * 1024 * 1024 * 1024,
            members_max: 4_000_000,
            directory_names_bytes_max: 128 * 1024 * 1024,
        }
    }
}

/// Unpacks a compressed layer into the empty directory `into`, writes it to the disk, and returns the digest of the
/// uncompressed stream: the layer's diff_id. Blocks. After an error the directory holds rubbish.
pub(super) fn unpack(
    blob: impl Read + Send,
    into: &Path,
    limits: &UnpackLimits,
) -> Result<Digest, UnpackError> {
    let stream = stream::decompress(blob).map_err(ArchiveError::Read)?;
    let mut archive = Archive::new(Metered::new(stream, limits.bytes_max));
    let tree = Tree::open(into).map_err(|source| UnpackError::Directory { step: "open", source })?;
    let mut unpacker = Unpacker {
        tree,
        limits,
        members: 0,
        directories: Directories::default(),
        buffer: vec![0; COPY_BYTES],
        into,
        unchecked_bytes: 0,
    };
    let digest = unpacker.run(&mut archive).and_then(|()| {
        let stream = archive.into_inner();
        stream.finish().map_err(|error| ArchiveError::Read(error).into())
    });
    let digest = digest.map_err(tell_bombs_apart)?;
    unpacker.finish_directories()?;
    Tree::sync(into).map_err(|source| UnpackError::Directory { step: "write out", source })?;
    Ok(digest)
}

fn tell_bombs_apart(error: UnpackError) -> UnpackError {
    let bomb = error.as_io().and_then(|error| error.get_ref()?.downcast_ref::<StreamTooLong>());
    bomb.map(|bomb| UnpackError::TooLarge(bomb.to_string())).unwrap_or(error)
}

/// Directories whose modification time is set when nothing more is written into them.
#[derive(Debug, Default)]
struct Directories {
    mtimes: Vec<(MemberPath, TimeSpec)>,
    names_bytes: usize,
}

struct Unpacker<'a> {
    tree: Tree,
    limits: &'a UnpackLimits,
    members: u64,
    directories: Directories,
    buffer: Vec<u8>,
    into: &'a Path,
    /// Bytes written since the disk was last looked at.
    unchecked_bytes: usize,
}

impl Unpacker<'_> {
    fn run(&mut self, archive: &mut Archive<impl Read>) -> Result<(), UnpackError> {
        while let Some(member) = archive.next_member()? {
            self.members += 1;
            if self.members > self.limits.members_max {
                return Err(UnpackError::TooLarge(format!(
                    "it has more than {} members",
                    self.limits.members_max
                )));
            }
            self.expect_room(overhead_bytes(&member)).map_err(write(&member, "find room"))?;
            self.unpack_member(&member, archive)?;
        }
        Ok(())
    }

    fn unpack_member(&mut self, member: &Member, content: &mut impl Read) -> Result<(), UnpackError> {
        let path = MemberPath::parse(&member.name)
            .map_err(|source| UnpackError::Name { member: shown_bytes(&member.name), source })?;
        if path.split().is_none() && member.kind != MemberKind::Directory {
            return Err(refused(member, "only a directory can be the root"));
        }
        match Whiteout::parse(&path) {
            Ok(None) => {}
            Ok(Some(whiteout)) => {
                return whiteout.apply(&mut self.tree).map_err(write(member, "make the whiteout"));
            }
            Err(why) => return Err(refused(member, why)),
        }
        let place = self.tree.place(&path).map_err(write(member, "make its directory"))?;
        match member.kind {
            MemberKind::Directory => self.unpack_directory(member, path, &place),
            MemberKind::File => self.unpack_file(member, &place, content),
            MemberKind::Symlink => self.unpack_symlink(member, &place),
            MemberKind::Hardlink => self.unpack_hardlink(member, &place),
            MemberKind::CharDevice | MemberKind::BlockDevice | MemberKind::Fifo => {
                self.unpack_node(member, &place)
            }
        }
    }

    fn unpack_directory(
        &mut self,
        member: &Member,
        path: MemberPath,
        place: &Place,
    ) -> Result<(), UnpackError> {
        let made = match self.tree.make_directory(place) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOTDIR as i32) => {
                self.tree.clear(place).and_then(|()| self.tree.make_directory(place))
            }
            made => made,
        };
        made.map_err(write(member, "make the directory"))?;
        self.set_attributes(member, place)?;
        self.directories.names_bytes += path.as_bytes().len();
        if self.directories.names_bytes > self.limits.directory_names_bytes_max {
            return Err(UnpackError::TooLarge("its directories have too long names".to_owned()));
        }
        self.directories.mtimes.push((path, time(member)));
        Ok(())
    }

    fn unpack_file(
        &mut self,
        member: &Member,
        place: &Place,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let mut file = self.replacing(place, Place::create_file).map_err(write(member, "make the file"))?;
        loop {
            let read = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ArchiveError::Read(error).into()),
            };
            self.expect_room(read).map_err(write(member, "write the file"))?;
            file.write_all(&self.buffer[..read]).map_err(write(member, "write the file"))?;
        }
        drop(file);
        self.set_attributes(member, place)?;
        place.set_mtime(time(member)).map_err(write(member, "set the time"))
    }

    /// Fails before a layer fills the disk that the node's own state is on.
    fn expect_room(&mut self, bytes: usize) -> io::Result<()> {
        self.unchecked_bytes += bytes;
        if self.unchecked_bytes < CHECK_ROOM_EVERY_BYTES {
            return Ok(());
        }
        self.unchecked_bytes = 0;
        expect_room(self.into, CHECK_ROOM_EVERY_BYTES as u64)
    }

    fn unpack_symlink(&mut self, member: &Member, place: &Place) -> Result<(), UnpackError> {
        if member.link.is_empty() || member.link.contains(&0) {
            return Err(refused(member, "a symbolic link needs a target"));
        }
        self.replacing(place, |place| place.create_symlink(&member.link))
            .map_err(write(member, "make the link"))?;
        place.set_owner(member.uid, member.gid).map_err(write(member, "set the owner"))?;
        place.set_mtime(time(member)).map_err(write(member, "set the time"))
    }

    /// Links to what the same layer unpacked before. A target in a lower layer is refused, as docker and containerd do on
    /// overlayfs: linking a file copies it up, so honest layers carry it, and what the link would share is another
    /// image's.
    fn unpack_hardlink(&mut self, member: &Member, place: &Place) -> Result<(), UnpackError> {
        let target = MemberPath::parse(&member.link)
            .map_err(|source| UnpackError::LinkTarget { member: shown_bytes(&member.name), source })?;
        let step = "link to a member before it in the same layer";
        let target = self.tree.find(&target).map_err(write(member, step))?;
        let wanted = target.stat().map_err(write(member, step))?;
        let Some(wanted) = wanted else { return Err(write(member, step)(Errno::ENOENT.into())) };
        if is_kind(&wanted, SFlag::S_IFDIR) {
            return Err(refused(member, "a directory can't have a hard link"));
        }
        let present = place.stat().map_err(write(member, step))?;
        if present.is_some_and(|present| (present.st_dev, present.st_ino) == (wanted.st_dev, wanted.st_ino)) {
            return Ok(());
        }
        self.replacing(place, |place| place.create_hardlink(&target)).map_err(write(member, step))
    }

    fn unpack_node(&mut self, member: &Member, place: &Place) -> Result<(), UnpackError> {
        let kind = match member.kind {
            MemberKind::Fifo => SFlag::S_IFIFO,
            MemberKind::CharDevice if HARMLESS_DEVICES.contains(&member.device) => SFlag::S_IFCHR,
            _ => return Err(refused(member, "it is a device that no image needs")),
        };
        let device = makedev(u64::from(member.device.0), u64::from(member.device.1));
        self.replacing(place, |place| place.create_node(kind, device))
            .map_err(write(member, "make the device"))?;
        self.set_attributes(member, place)?;
        place.set_mtime(time(member)).map_err(write(member, "set the time"))
    }

    /// Makes something at a place; what is there already gives way, as with tar and docker.
    fn replacing<T>(&mut self, place: &Place, make: impl Fn(&Place) -> io::Result<T>) -> io::Result<T> {
        match make(place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.tree.clear(place)?;
                make(place)
            }
            made => made,
        }
    }

    /// Owner, then mode, then extended attributes: a change of owner clears set-uid bits and capabilities. Only files
    /// and directories have attributes that Linux lets anybody set.
    fn set_attributes(&self, member: &Member, place: &Place) -> Result<(), UnpackError> {
        place.set_owner(member.uid, member.gid).map_err(write(member, "set the owner"))?;
        place.set_mode(Mode::from_bits_truncate(member.mode)).map_err(write(member, "set the mode"))?;
        if !matches!(member.kind, MemberKind::File | MemberKind::Directory) {
            return Ok(());
        }
        for (name, value) in &member.xattrs {
            if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
                return Err(refused(member, "it has attributes that steer overlayfs"));
            }
            if !is_wanted_xattr(name) {
                continue;
            }
            match place.set_xattr(OsStr::from_bytes(name), value) {
                // Some file systems have no user attributes or no ACLs; images work without, as with docker.
                Err(error) if error.raw_os_error() == Some(Errno::ENOTSUP as i32) && !is_capability(name) => {
                }
                set => set.map_err(write(member, "set an extended attribute"))?,
            }
        }
        Ok(())
    }

    fn finish_directories(&mut self) -> Result<(), UnpackError> {
        for (path, mtime) in std::mem::take(&mut self.directories.mtimes) {
            // A later member may have replaced the directory; then there is nothing to do.
            let Ok(place) = self.tree.find(&path) else { continue };
            let failed = |source| UnpackError::Write {
                member: shown_bytes(path.as_bytes()),
                step: "set the time",
                source,
            };
            if place.stat().map_err(failed)?.is_some_and(|stat| is_kind(&stat, SFlag::S_IFDIR)) {
                place.set_mtime(mtime).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// About how many bytes of disk a member takes besides its content.
fn overhead_bytes(member: &Member) -> usize {
    let xattrs: usize = member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    INODE_BYTES + member.name.len() + member.link.len() + xattrs
}

fn refused(member: &Member, why: &'static str) -> UnpackError {
    UnpackError::Refused { member: shown_bytes(&member.name), why }
}

fn write(member: &Member, step: &'static str) -> impl Fn(io::Error) -> UnpackError {
    move |source| UnpackError::Write { member: shown_bytes(&member.name), step, source }
}

fn time(member: &Member) -> TimeSpec {
    TimeSpec::new(member.mtime.0, i64::from(member.mtime.1))
}

/// Attributes that mean something inside a container. Others (`trusted.`, the labels of the host that built the image)
/// are left out.
fn is_wanted_xattr(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || is_capability(name)
}

fn is_capability(name: &[u8]) -> bool {
    name == b"security.capability"
}

#[cfg(test)]
mod tar_fixture;
#[cfg(test)]
mod tests;
