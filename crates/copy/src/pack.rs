//! Writes a file or a tree as a tar stream. It never opens what is no regular file or directory, follows no link, and
//! does not descend into file systems that the kernel makes up.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions, ReadDir},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, major, minor},
};
use tar::{Builder, EntryType, Header};

use crate::{
    Report,
    error::CopyError,
    owner::Owner,
    path::DEPTH_MAX,
    root::{Source, is_kernels},
};

/// What to write of a source.
#[derive(Debug)]
pub struct PackRequest<'a> {
    /// Where it is.
    pub source: &'a Source,
    /// The name that the source has in the stream; `.` or nothing when only what is in it is to have names.
    pub name: &'a OsStr,
    /// Whose the files are in the stream: root's for [`Owner::Ours`].
    pub owner: Owner,
    /// Leave out devices and named pipes, and count them; else they are members.
    pub skip_nodes: bool,
}

/// Writes the stream. Blocks. What vanishes while it is copied is left out.
///
/// # Errors
/// [`CopyError::Stream`] when `out` fails; otherwise what can't be read.
pub fn pack(request: &PackRequest<'_>, out: impl Write) -> Result<Report, CopyError> {
    let mut builder = Builder::new(out);
    builder.mode(tar::HeaderMode::Complete);
    let mut packer = Packer { builder, request, report: Report::default() };
    let name = if request.name == "." { &[] } else { request.name.as_bytes() };
    let source = request.source;
    let node = source.node.try_clone().map_err(packer.read(name))?;
    let mut levels: Vec<Level> = packer.add(node, name.to_vec())?.into_iter().collect();
    while let Some(level) = levels.last_mut() {
        let entry = match level.entries.next() {
            None => {
                levels.pop();
                continue;
            }
            Some(entry) => entry.map_err(packer.read(&level.path))?,
        };
        let path = join(&level.path, &entry.file_name());
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let child = match openat(&level.directory, entry.file_name().as_os_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => continue,
            child => child.map_err(|errno| packer.read(&path)(errno.into()))?,
        };
        let below = packer.add(child, path)?;
        if let Some(below) = below {
            if levels.len() >= DEPTH_MAX {
                return Err(CopyError::TooDeep(packer.shown(&below.path)));
            }
            levels.push(below);
        }
    }
    packer.builder.into_inner().and_then(|mut out| out.flush()).map_err(CopyError::Stream)?;
    Ok(packer.report)
}

/// A directory that is being read.
struct Level {
    directory: OwnedFd,
    entries: ReadDir,
    /// Its name in the stream.
    path: Vec<u8>,
}

struct Packer<'a, W: Write> {
    builder: Builder<W>,
    request: &'a PackRequest<'a>,
    report: Report,
}

impl<W: Write> Packer<'_, W> {
    /// Writes one member; answers the level below a directory.
    fn add(&mut self, node: OwnedFd, path: Vec<u8>) -> Result<Option<Level>, CopyError> {
        let stat = fstat(&node).map_err(|errno| self.read(&path)(errno.into()))?;
        let mut header = self.header(&stat);
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => return self.add_directory(node, path, header),
            SFlag::S_IFREG => self.add_file(&node, &path, &stat, header)?,
            SFlag::S_IFLNK => {
                let target = readlinkat(&node, "").map_err(|errno| self.read(&path)(errno.into()))?;
                header.set_entry_type(EntryType::Symlink);
                self.builder.append_link(&mut header, name(&path), target).map_err(CopyError::Stream)?;
            }
            kind => return self.add_node(kind, &stat, &path, header).map(|()| None),
        }
        self.report.files += 1;
        Ok(None)
    }

    fn add_directory(
        &mut self,
        node: OwnedFd,
        path: Vec<u8>,
        mut header: Header,
    ) -> Result<Option<Level>, CopyError> {
        header.set_entry_type(EntryType::Directory);
        if path.is_empty() {
            let field = &mut header.as_old_mut().name;
            field[..2].copy_from_slice(b"./");
            header.set_cksum();
            self.builder.append(&header, io::empty()).map_err(CopyError::Stream)?;
        } else {
            self.builder.append_data(&mut header, name(&path), io::empty()).map_err(CopyError::Stream)?;
        }
        self.report.files += 1;
        if is_kernels(&node) {
            return Ok(None);
        }
        let entries = fs::read_dir(opened(&node)).map_err(self.read(&path))?;
        Ok(Some(Level { directory: node, entries, path }))
    }

    fn add_file(
        &mut self,
        node: &OwnedFd,
        path: &[u8],
        stat: &FileStat,
        mut header: Header,
    ) -> Result<(), CopyError> {
        // The descriptor stands for a regular file; opening it again can't become anything else.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(opened(node));
        let file = file.map_err(self.read(path))?;
        let size = stat.st_size.cast_unsigned();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        let mut failure = None;
        let content = Content { file, left: size, failure: &mut failure };
        let written = self.builder.append_data(&mut header, name(path), content);
        match (written, failure) {
            (Ok(()), _) => {
                self.report.bytes += size;
                Ok(())
            }
            (Err(_), Some(None)) => Err(CopyError::Changed(self.shown(path))),
            (Err(_), Some(Some(source))) => Err(self.read(path)(source)),
            (Err(source), None) => Err(CopyError::Stream(source)),
        }
    }

    fn add_node(
        &mut self,
        kind: SFlag,
        stat: &FileStat,
        path: &[u8],
        mut header: Header,
    ) -> Result<(), CopyError> {
        let entry_type = match kind {
            SFlag::S_IFIFO => EntryType::Fifo,
            SFlag::S_IFCHR => EntryType::Char,
            SFlag::S_IFBLK => EntryType::Block,
            // Sockets have no form in a tar archive.
            _ => {
                self.report.skip(path);
                return Ok(());
            }
        };
        if self.request.skip_nodes {
            self.report.skip(path);
            return Ok(());
        }
        header.set_entry_type(entry_type);
        let device = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let numbered = header
            .set_device_major(device(major(stat.st_rdev)))
            .and_then(|()| header.set_device_minor(device(minor(stat.st_rdev))));
        numbered.map_err(self.read(path))?;
        self.builder.append_data(&mut header, name(path), io::empty()).map_err(CopyError::Stream)?;
        self.report.files += 1;
        Ok(())
    }

    fn header(&self, stat: &FileStat) -> Header {
        let mut header = Header::new_gnu();
        let (uid, gid) = match &self.request.owner {
            Owner::Ours => (0, 0),
            Owner::Kept(_) => self.request.source.ids.inside(stat.st_uid, stat.st_gid),
        };
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        header
    }

    fn read(&self, path: &[u8]) -> impl Fn(io::Error) -> CopyError + use<W> {
        let path = self.shown(path);
        move |source| CopyError::Read { path: path.clone(), source }
    }

    fn shown(&self, path: &[u8]) -> String {
        if path.is_empty() {
            self.request.source.shown.clone()
        } else {
            String::from_utf8_lossy(path).into_owned()
        }
    }
}

/// A file's content: exactly as many bytes as its header says.
struct Content<'a> {
    file: File,
    left: u64,
    /// Why it can't be had; `Some(None)` when the file became shorter.
    failure: &'a mut Option<Option<io::Error>>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..wanted]) {
            Ok(0) => {
                *self.failure = Some(None);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                *self.failure = Some(Some(error));
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

/// What a descriptor stands for, to be opened for reading.
fn opened(node: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", node.as_raw_fd()))
}

fn name(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}

fn join(directory: &[u8], name: &OsString) -> Vec<u8> {
    if directory.is_empty() {
        return name.as_bytes().to_vec();
    }
    [directory, b"/", name.as_bytes()].concat()
}
