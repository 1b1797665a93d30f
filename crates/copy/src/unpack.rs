//! Unpacks a tar stream below a directory. Whoever wrote the stream, and whoever else writes below the directory
//! meanwhile, may be an enemy: each member is made anew by its name in an open directory that was reached without
//! following a link, and gets its attributes through its own descriptor.
//!
//! Files replace files and links. It refuses to put a directory in the place of a file or the other way round, to go
//! through links, and to change directories that were there before.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    rc::Rc,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat},
    sys::{
        stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, mkdirat, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat},
};

use crate::{
    Report,
    archive::{Archive, ArchiveError, Member, MemberKind},
    error::CopyError,
    owner::Owner,
    path::MemberPath,
    root::{Destination, is_kind, resolve},
    shown::shown_bytes,
};

/// Bytes copied into a file at a time.
const COPY_BYTES: usize = 128 * 1024;
/// Most bytes of all new directories' names together, which are kept to the end.
const DIRECTORY_NAMES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a name is made free that somebody else takes again.
const REPLACE_ATTEMPTS_MAX: u32 = 100;
/// Set-user-id and set-group-id.
const SET_ID_BITS: u32 = 0o6000;

/// What becomes of devices and named pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// They are left out and counted.
    Skip,
    /// They are an error.
    Refuse,
}

/// How to unpack a stream.
#[derive(Debug)]
pub struct UnpackRequest<'a> {
    /// Where to.
    pub destination: &'a Destination,
    /// The first part that every member's name must have, and that is taken away; nothing when empty.
    pub strip: &'a OsStr,
    /// What is put before every member's name instead; nothing when empty.
    pub prefix: &'a OsStr,
    /// Whose the files become.
    pub owner: Owner,
    /// What becomes of devices and named pipes.
    pub nodes: Nodes,
}

/// Unpacks the stream. Blocks. After an error what was unpacked before it is there.
///
/// # Errors
/// [`CopyError::Archive`] when the stream is no archive or breaks off; otherwise by member.
pub fn unpack(request: &UnpackRequest<'_>, stream: impl Read) -> Result<Report, CopyError> {
    let base = request.destination.base.try_clone().map_err(CopyError::Root)?;
    let mut unpacker = Unpacker {
        request,
        base: Rc::new(base),
        last: None,
        directories: Vec::new(),
        names_bytes: 0,
        buffer: vec![0; COPY_BYTES],
        report: Report::default(),
    };
    let mut archive = Archive::new(stream);
    while let Some(member) = archive.next_member()? {
        unpacker.add(&member, &mut archive)?;
    }
    // A stream may be padded after its end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(ArchiveError::Read)?;
    unpacker.finish_directories()?;
    Ok(unpacker.report)
}

/// A directory that was made here, whose attributes are set when nothing more is written into it.
struct Made {
    path: MemberPath,
    owner: Option<(u32, u32)>,
    mode: Mode,
    mtime: TimeSpec,
}

/// Where a member goes: an open directory, and the one name in it.
struct Place {
    directory: Rc<OwnedFd>,
    name: Vec<u8>,
}

struct Unpacker<'a> {
    request: &'a UnpackRequest<'a>,
    base: Rc<OwnedFd>,
    /// The directory that was reached last: streams list members directory by directory.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    directories: Vec<Made>,
    names_bytes: usize,
    buffer: Vec<u8>,
    report: Report,
}

impl Unpacker<'_> {
    fn add(&mut self, member: &Member, content: &mut impl Read) -> Result<(), CopyError> {
        let path = self.renamed(&member.name, member)?;
        let Some((directory, name)) = path.split() else {
            // The base itself stays as it is.
            let is_directory = member.kind == MemberKind::Directory;
            return if is_directory {
                Ok(())
            } else {
                Err(refused(member, "only a directory can be the base"))
            };
        };
        let place = Place { directory: self.directory(directory, member)?, name: name.to_vec() };
        match member.kind {
            MemberKind::Directory => self.add_directory(member, path.clone(), &place)?,
            MemberKind::File => self.add_file(member, &place, content)?,
            MemberKind::Symlink => self.add_symlink(member, &place)?,
            MemberKind::Hardlink => self.add_hardlink(member, &place)?,
            MemberKind::CharDevice | MemberKind::BlockDevice | MemberKind::Fifo => {
                if self.request.nodes == Nodes::Refuse {
                    return Err(refused(member, "devices and named pipes are not copied"));
                }
                self.report.skip(path.as_bytes());
                return Ok(());
            }
        }
        self.report.files += 1;
        Ok(())
    }

    /// A name of the stream as the name below the base.
    fn renamed(&self, name: &[u8], member: &Member) -> Result<MemberPath, CopyError> {
        let parse = |name: &[u8]| {
            MemberPath::parse(name)
                .map_err(|source| CopyError::Name { member: shown_bytes(&member.name), source })
        };
        let path = parse(name)?;
        let strip = self.request.strip.as_bytes();
        let rest = match path.as_bytes().strip_prefix(strip) {
            Some(rest) if strip.is_empty() || rest.is_empty() || rest[0] == b'/' => rest,
            _ => return Err(refused(member, "it is outside of what was asked for")),
        };
        // A leading slash of the rest, and one after an empty prefix, mean nothing to the parser.
        parse(&[self.request.prefix.as_bytes(), b"/", rest].concat())
    }

    /// The open directory of that path below the base; what is missing on the way is made.
    fn directory(&mut self, path: &[u8], member: &Member) -> Result<Rc<OwnedFd>, CopyError> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.base));
        }
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.reach(path) {
            Err(Errno::ENOENT) => self.make_parents(path, member)?,
            reached => Rc::new(reached.map_err(|errno| unreachable_place(member, errno))?),
        };
        self.last = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    /// Goes down without following links: where one stands, something else than the stream's directory is there.
    fn reach(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        resolve(&self.base, path, how)
    }

    fn make_parents(&mut self, path: &[u8], member: &Member) -> Result<Rc<OwnedFd>, CopyError> {
        let mut current = Rc::clone(&self.base);
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        let mut start = 0;
        for end in ends {
            let name = OsStr::from_bytes(&path[start..end]);
            start = end + 1;
            match mkdirat(&*current, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(write(member, "make its directory")(errno.into())),
            }
            let reached = self.reach(&path[..end]);
            current = Rc::new(reached.map_err(|errno| unreachable_place(member, errno))?);
        }
        Ok(current)
    }

    fn add_directory(&mut self, member: &Member, path: MemberPath, place: &Place) -> Result<(), CopyError> {
        match mkdirat(&*place.directory, place.name(), Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let stat = place.stat().map_err(write(member, "make the directory"))?;
                let is_directory = stat.is_some_and(|stat| is_kind(&stat, SFlag::S_IFDIR));
                let why = "something that is no directory is in its place";
                return if is_directory { Ok(()) } else { Err(refused(member, why)) };
            }
            Err(errno) => return Err(write(member, "make the directory")(errno.into())),
        }
        self.names_bytes += path.as_bytes().len();
        if self.names_bytes > DIRECTORY_NAMES_BYTES_MAX {
            return Err(CopyError::TooLarge);
        }
        let owner = self.owner(member)?;
        self.directories.push(Made { path, owner, mode: self.mode(member), mtime: time(member) });
        Ok(())
    }

    fn add_file(&mut self, member: &Member, place: &Place, content: &mut impl Read) -> Result<(), CopyError> {
        let mut file = replacing(member, place, |place| {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&*place.directory, place.name(), flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
        })?;
        let failed = || write(member, "write the file");
        let mut len = 0;
        loop {
            let read = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ArchiveError::Read(error).into()),
            };
            let piece = &self.buffer[..read];
            len += read as u64;
            // What is empty takes no room: a file with holes keeps them.
            if piece.len() == COPY_BYTES && piece.iter().all(|&byte| byte == 0) {
                file.seek(SeekFrom::Current(read as i64)).map_err(failed())?;
            } else {
                file.write_all(piece).map_err(failed())?;
            }
        }
        file.set_len(len).map_err(failed())?;
        self.report.bytes += len;
        set_attributes(&file, self.owner(member)?, self.mode(member), time(member))
            .map_err(|errno| write(member, "set its attributes")(errno.into()))
    }

    fn add_symlink(&mut self, member: &Member, place: &Place) -> Result<(), CopyError> {
        if member.link.is_empty() || member.link.contains(&0) {
            return Err(refused(member, "a symbolic link needs a target"));
        }
        let target = OsStr::from_bytes(&member.link);
        replacing(member, place, |place| symlinkat(target, &*place.directory, place.name()))?;
        let owned = match self.owner(member)? {
            Some((uid, gid)) => {
                let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                fchownat(&*place.directory, place.name(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            }
            None => Ok(()),
        };
        let mtime = time(member);
        let no_follow = UtimensatFlags::NoFollowSymlink;
        owned
            .and_then(|()| utimensat(&*place.directory, place.name(), &mtime, &mtime, no_follow))
            .map_err(|errno| write(member, "set its attributes")(errno.into()))
    }

    /// One more name of a file that the stream had before.
    fn add_hardlink(&mut self, member: &Member, place: &Place) -> Result<(), CopyError> {
        let step = "link to a member before it";
        let target = self.renamed(&member.link, member)?;
        let Some((directory, name)) = target.split() else {
            return Err(refused(member, "it links to the base"));
        };
        let target = Place { directory: self.directory(directory, member)?, name: name.to_vec() };
        let stat = target.stat().map_err(write(member, step))?;
        let Some(stat) = stat else { return Err(write(member, step)(Errno::ENOENT.into())) };
        if !is_kind(&stat, SFlag::S_IFREG) {
            return Err(refused(member, "only files have hard links"));
        }
        let present = place.stat().map_err(write(member, step))?;
        if present.is_some_and(|present| (present.st_dev, present.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        replacing(member, place, |place| {
            linkat(&*target.directory, target.name(), &*place.directory, place.name(), AtFlags::empty())
        })
    }

    /// The numbers of its owner here; `None` leaves it to whoever copies.
    fn owner(&self, member: &Member) -> Result<Option<(u32, u32)>, CopyError> {
        let Owner::Kept(ids) = &self.request.owner else { return Ok(None) };
        let why = "its owner has no number here";
        ids.outside(member.uid, member.gid).map(Some).ok_or_else(|| refused(member, why))
    }

    fn mode(&self, member: &Member) -> Mode {
        let kept = if self.request.owner == Owner::Ours { member.mode & !SET_ID_BITS } else { member.mode };
        Mode::from_bits_truncate(kept)
    }

    /// Deepest first, so that a directory that nobody may enter is closed when nothing below it is left to do.
    fn finish_directories(&mut self) -> Result<(), CopyError> {
        for made in std::mem::take(&mut self.directories).into_iter().rev() {
            let failed = |errno: Errno| CopyError::Write {
                member: String::from_utf8_lossy(made.path.as_bytes()).into_owned(),
                step: "set its attributes",
                source: errno.into(),
            };
            let Some((directory, name)) = made.path.split() else { continue };
            // Somebody else may have moved it meanwhile; then there is nothing to do.
            let parent =
                if directory.is_empty() { self.base.try_clone().ok() } else { self.reach(directory).ok() };
            let Some(parent) = parent else { continue };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let Ok(opened) = openat(&parent, OsStr::from_bytes(name), flags, Mode::empty()) else { continue };
            set_attributes(&File::from(opened), made.owner, made.mode, made.mtime).map_err(failed)?;
        }
        Ok(())
    }
}

impl Place {
    fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    fn stat(&self) -> io::Result<Option<FileStat>> {
        match fstatat(&*self.directory, self.name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Makes something at a place where nothing may be: a file or link that is there goes, a directory does not.
fn replacing<T>(
    member: &Member,
    place: &Place,
    make: impl Fn(&Place) -> nix::Result<T>,
) -> Result<T, CopyError> {
    for _ in 0..REPLACE_ATTEMPTS_MAX {
        match make(place) {
            Err(Errno::EEXIST) => {}
            made => return made.map_err(|errno| write(member, "make it")(errno.into())),
        }
        match unlinkat(&*place.directory, place.name(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => return Err(refused(member, "a directory is in its place")),
            Err(errno) => return Err(write(member, "replace what is in its place")(errno.into())),
        }
    }
    Err(write(member, "make it")(Errno::EEXIST.into()))
}

/// Owner, then mode: a change of owner clears set-id bits.
fn set_attributes(file: &File, owner: Option<(u32, u32)>, mode: Mode, mtime: TimeSpec) -> nix::Result<()> {
    if let Some((uid, gid)) = owner {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(file, mode)?;
    futimens(file, &mtime, &mtime)
}

fn time(member: &Member) -> TimeSpec {
    TimeSpec::new(member.mtime.0, i64::from(member.mtime.1))
}

fn refused(member: &Member, why: &'static str) -> CopyError {
    CopyError::Refused { member: shown_bytes(&member.name), why }
}

fn write(member: &Member, step: &'static str) -> impl Fn(io::Error) -> CopyError {
    let member = shown_bytes(&member.name);
    move |source| CopyError::Write { member: member.clone(), step, source }
}

fn unreachable_place(member: &Member, errno: Errno) -> CopyError {
    match errno {
        Errno::ELOOP => refused(member, "a symbolic link is in the place of its directory"),
        Errno::ENOTDIR => refused(member, "a file is in the place of its directory"),
        Errno::EXDEV => refused(member, "its directory was moved away"),
        errno => write(member, "reach its directory")(errno.into()),
    }
}
