//! Reads a tar stream member by member: ustar, GNU long names, PAX extended headers. Layers are such streams, and so
//! are archives of whole images.
//!
//! It refuses sparse members, unknown member types and oversized extended headers; unlike the `tar` crate's own
//! iterator it bounds what an extended header may hold in memory, and takes values with newlines as they are.

use std::{
    borrow::Cow,
    io::{self, Read, Seek},
};

use tar::{EntryType, Header};

mod pax;

use pax::{PaxError, PaxRecords, parse_number, parse_time};

/// Size of headers, and what contents are padded to, in bytes.
const BLOCK_BYTES: usize = 512;
/// Most bytes of one member's extended headers: room for every attribute a Linux file can have, and its names.
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
/// Key prefix of extended attributes, as star, GNU tar and Go write it.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Why a stream is not a tar archive, or not one that images have.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream below failed: damaged compression, a size limit, the disk.
    #[error("the stream can't be read")]
    Read(#[source] io::Error),
    /// A header's checksum is wrong: this is no tar, or it is damaged.
    #[error("a header's checksum is wrong")]
    Checksum,
    /// A header field is no number.
    #[error("the header field `{0}` is malformed")]
    Field(&'static str),
    /// Extended headers of one member over [`EXTENSION_BYTES_MAX`].
    #[error("the extended headers of a member are larger than {EXTENSION_BYTES_MAX} bytes")]
    ExtensionTooLarge,
    /// An extended header that is not followed by its member.
    #[error("an extended header belongs to no member")]
    ExtensionMisplaced,
    /// An extended header that doesn't follow the format.
    #[error(transparent)]
    Pax(#[from] PaxError),
    /// A kind of member that images don't have.
    #[error("member type `{}` is not supported", char::from(*.0).escape_default())]
    MemberType(u8),
    /// Sparse files: their real size and content are told in too many ways.
    #[error("sparse members are not supported")]
    Sparse,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to `link`.
    Symlink,
    /// One more name of the member `link`.
    Hardlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One member's header with its extensions applied.
#[derive(Debug)]
pub struct Member {
    /// As the stream has it: any bytes.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with set-uid, set-gid and sticky: at most `0o7777`.
    pub mode: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Seconds since the Unix epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Target of symbolic and hard links, otherwise empty.
    pub link: Vec<u8>,
    /// Major and minor number of devices.
    pub device: (u32, u32),
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What extended headers say about the member after them.
#[derive(Debug, Default)]
struct Extension {
    bytes: u64,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream. After [`Self::next_member`] the archive itself reads as that member's content.
#[derive(Debug)]
pub struct Archive<R> {
    stream: R,
    content_bytes: u64,
    padding_bytes: u64,
}

impl<R: Read> Archive<R> {
    /// Reads from a stream that was decompressed already.
    pub fn new(stream: R) -> Self {
        Self { stream, content_bytes: 0, padding_bytes: 0 }
    }

    /// The stream, for what comes after the archive's end.
    pub fn into_inner(self) -> R {
        self.stream
    }

    /// How many bytes of the current member's content are still to be read.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// The next member; `None` at the end. What wasn't read of the member before is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        let mut extension: Option<Extension> = None;
        loop {
            let Some(header) = self.next_header()? else {
                return if extension.is_some() { Err(ArchiveError::ExtensionMisplaced) } else { Ok(None) };
            };
            let is_extension = matches!(
                header.entry_type(),
                EntryType::XGlobalHeader
                    | EntryType::XHeader
                    | EntryType::GNULongName
                    | EntryType::GNULongLink
            );
            if !is_extension {
                return self.begin_member(&header, extension.unwrap_or_default()).map(Some);
            }
            let extension = extension.get_or_insert_default();
            let content = self.read_extension(&header, &mut extension.bytes)?;
            match header.entry_type() {
                EntryType::XHeader => extension.apply(&content)?,
                EntryType::GNULongName => extension.name = Some(until_nul(content)),
                EntryType::GNULongLink => extension.link = Some(until_nul(content)),
                // Docker and containerd ignore global headers too: `git archive` keeps a comment there.
                _ => {}
            }
        }
    }

    fn begin_member(&mut self, header: &Header, extension: Extension) -> Result<Member, ArchiveError> {
        let old = header.as_old();
        let name = extension.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = member_kind(header, &name)?;
        if matches!(header.entry_type(), EntryType::Regular | EntryType::Continuous) {
            let size = match extension.size {
                Some(size) => size,
                None => number(&old.size, "size")?,
            };
            self.expect_content(size)?;
        }
        let link = extension.link.or_else(|| header.link_name_bytes().map(Cow::into_owned));
        Ok(Member {
            name,
            kind,
            // The field has 12 bits; some writers put the file type above them.
            mode: (number(&old.mode, "mode")? & 0o7777) as u32,
            uid: owner(extension.uid, &old.uid, "uid")?,
            gid: owner(extension.gid, &old.gid, "gid")?,
            // GNU tar writes times before 1970 as two's complement.
            mtime: match extension.mtime {
                Some(mtime) => mtime,
                None => (number(&old.mtime, "mtime")?.cast_signed(), 0),
            },
            link: link.unwrap_or_default(),
            device: device(header)?,
            xattrs: extension.xattrs,
        })
    }

    /// The next header with a right checksum; `None` at the end-of-archive marker or the end of the stream.
    fn next_header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let rest = self.content_bytes + self.padding_bytes;
        let skipped =
            io::copy(&mut (&mut self.stream).take(rest), &mut io::sink()).map_err(ArchiveError::Read)?;
        if skipped < rest {
            return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        (self.content_bytes, self.padding_bytes) = (0, 0);
        let mut header = Header::new_old();
        if !read_block(&mut self.stream, header.as_mut_bytes())? || header.as_bytes().iter().all(|&b| b == 0)
        {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        // The checksum field itself counts as eight spaces (POSIX.1-2017, pax, "ustar Interchange Format").
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&b| u32::from(b)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(ArchiveError::Checksum);
        }
        Ok(Some(header))
    }

    /// Reads the content of an extended header; `bytes` counts what this member's headers had so far.
    fn read_extension(&mut self, header: &Header, bytes: &mut u64) -> Result<Vec<u8>, ArchiveError> {
        let size = number(&header.as_old().size, "size")?;
        *bytes = bytes.saturating_add(size);
        if *bytes > EXTENSION_BYTES_MAX {
            return Err(ArchiveError::ExtensionTooLarge);
        }
        self.expect_content(size)?;
        let mut content = Vec::new();
        self.read_to_end(&mut content).map_err(ArchiveError::Read)?;
        Ok(content)
    }

    fn expect_content(&mut self, size: u64) -> Result<(), ArchiveError> {
        if size > i64::MAX.cast_unsigned() {
            return Err(ArchiveError::Field("size"));
        }
        self.content_bytes = size;
        self.padding_bytes = size.wrapping_neg() % BLOCK_BYTES as u64;
        Ok(())
    }
}

impl<R: Read + Seek> Archive<R> {
    /// Goes past the current member's content without reading it. Returns where in the stream the content begins.
    pub fn skip_content(&mut self) -> io::Result<u64> {
        let begin = self.stream.stream_position()?;
        self.stream.seek_relative(self.content_bytes.cast_signed())?;
        self.content_bytes = 0;
        Ok(begin)
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.content_bytes).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content_bytes -= read as u64;
        Ok(read)
    }
}

impl Extension {
    /// Takes over the records of one PAX header; a later record wins, as the format says.
    fn apply(&mut self, content: &[u8]) -> Result<(), ArchiveError> {
        for record in PaxRecords::new(content) {
            let (key, value) = record?;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(parse_number(value)?),
                b"uid" => self.uid = Some(parse_number(value)?),
                b"gid" => self.gid = Some(parse_number(value)?),
                b"mtime" => self.mtime = Some(parse_time(value)?),
                _ if key.starts_with(b"GNU.sparse.") => return Err(ArchiveError::Sparse),
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

fn member_kind(header: &Header, name: &[u8]) -> Result<MemberKind, ArchiveError> {
    Ok(match header.entry_type() {
        // Archives older than POSIX have no types: a directory is told by its slash.
        EntryType::Regular if header.as_old().linkflag == [0] && name.ends_with(b"/") => {
            MemberKind::Directory
        }
        EntryType::Regular | EntryType::Continuous => MemberKind::File,
        EntryType::Directory => MemberKind::Directory,
        EntryType::Symlink => MemberKind::Symlink,
        EntryType::Link => MemberKind::Hardlink,
        EntryType::Char => MemberKind::CharDevice,
        EntryType::Block => MemberKind::BlockDevice,
        EntryType::Fifo => MemberKind::Fifo,
        EntryType::GNUSparse => return Err(ArchiveError::Sparse),
        other => return Err(ArchiveError::MemberType(other.as_byte())),
    })
}

fn owner(extension: Option<u64>, field: &[u8], name: &'static str) -> Result<u32, ArchiveError> {
    let id = match extension {
        Some(id) => id,
        None => number(field, name)?,
    };
    // The largest value means "leave as it is" to chown(2).
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or(ArchiveError::Field(name))
}

/// Major and minor number; 0 for members that are no devices.
fn device(header: &Header) -> Result<(u32, u32), ArchiveError> {
    if !matches!(header.entry_type(), EntryType::Char | EntryType::Block) {
        return Ok((0, 0));
    }
    let fields = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (ustar.dev_major, ustar.dev_minor),
        (None, Some(gnu)) => (gnu.dev_major, gnu.dev_minor),
        (None, None) => return Err(ArchiveError::Field("devmajor")),
    };
    let part = |field: &[u8], name| {
        number(field, name).and_then(|part| u32::try_from(part).map_err(|_| ArchiveError::Field(name)))
    };
    Ok((part(&fields.0, "devmajor")?, part(&fields.1, "devminor")?))
}

/// A numeric field: octal text padded with spaces and NULs, empty for 0, or big-endian binary after a first bit of 1
/// (GNU tar manual, "Basic Tar Format"). Negative binary numbers come out as two's complement.
fn number(field: &[u8], name: &'static str) -> Result<u64, ArchiveError> {
    let bad = || ArchiveError::Field(name);
    let &[first, .., _] = field else { return Err(bad()) };
    if first & 0x80 != 0 {
        let sign = if first & 0x40 == 0 { 0x00 } else { 0xff };
        let digits = std::iter::once(first & 0x7f | sign & 0x80).chain(field[1..].iter().copied());
        let (mut value, mut is_narrow) = (if sign == 0 { 0 } else { u64::MAX }, true);
        for digit in digits {
            is_narrow &= (value >> 56) as u8 == sign;
            value = value << 8 | u64::from(digit);
        }
        return if is_narrow { Ok(value) } else { Err(bad()) };
    }
    let text = std::str::from_utf8(field).map_err(|_| bad())?.trim_matches([' ', '\0']);
    if text.is_empty() { Ok(0) } else { u64::from_str_radix(text, 8).map_err(|_| bad()) }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

/// Fills a block; `false` when the stream ends before its first byte.
fn read_block(stream: &mut impl Read, block: &mut [u8; BLOCK_BYTES]) -> Result<bool, ArchiveError> {
    let mut filled = 0;
    while filled < BLOCK_BYTES {
        match stream.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Read(error)),
        }
    }
    Ok(true)
}
