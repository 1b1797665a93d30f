//! The files of an image to import: in a directory, or in a tar archive that stands for one.
//!
//! Files in it are strangers'. It refuses links and everything else that isn't a plain file, documents that are too
//! large, and compressed archives. It never writes.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::StreamExt;
use hypercore_copy::{
    archive::{Archive, MemberKind},
    path::MemberPath,
};
use nix::fcntl::OFlag;
use tokio_util::io::ReaderStream;

use super::{
    TransferError,
    blocking::blocking,
    content::{ContentError, DOCUMENT_BYTES_MAX},
    download::BlobStream,
};

/// Most members of an archive: an image has few, many images still have few.
const MEMBERS_COUNT_MAX: usize = 100_000;
/// What fails when a file can't be read.
const STEP: &str = "read a file to import";
/// Bytes read from a file at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) enum ImageFiles {
    /// In a directory.
    Directory(PathBuf),
    /// In an archive: where each file begins, and how many bytes it has.
    Archive { path: PathBuf, files: Arc<HashMap<Vec<u8>, (u64, u64)>> },
}

impl ImageFiles {
    /// Looks at a path. An archive's headers are read, its contents skipped. Blocks.
    ///
    /// # Errors
    /// When it can't be read, or what it is instead.
    pub(super) fn open(path: &Path) -> Result<Self, NoFiles> {
        let metadata = std::fs::metadata(path).map_err(NoFiles::Unreadable)?;
        if metadata.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if !metadata.is_file() {
            return Err(NoFiles::Other("it is neither a directory nor a file".to_owned()));
        }
        Ok(Self::Archive { path: path.to_owned(), files: Arc::new(list_archive(path)?) })
    }

    /// Whether there is a file of that name. Blocks.
    ///
    /// # Errors
    /// What the system says about a file that is there but can't be opened.
    pub(super) fn has(&self, name: &str) -> io::Result<bool> {
        match self.open_file(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a document that has to fit into memory. Blocks.
    pub(super) fn read(&self, what: &'static str, name: &str) -> Result<Vec<u8>, TransferError> {
        let file = self.open_file(name).map_err(not_found_or(STEP))?;
        let mut content = Vec::new();
        let read = file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut content);
        let bytes = read.map_err(TransferError::store(STEP))? as u64;
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(TransferError::Malformed(ContentError::TooLarge {
                what,
                bytes,
                bytes_max: DOCUMENT_BYTES_MAX,
            }));
        }
        Ok(content)
    }

    /// Opens a file for reading from its beginning to its end. Blocks.
    pub(super) fn open_file(&self, name: &str) -> io::Result<io::Take<File>> {
        match self {
            Self::Directory(directory) => {
                // A link could lead anywhere, and opening a pipe could wait forever.
                let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
                let file =
                    OpenOptions::new().read(true).custom_flags(flags.bits()).open(directory.join(name))?;
                let metadata = file.metadata()?;
                if metadata.is_file() {
                    Ok(file.take(metadata.len()))
                } else {
                    Err(io::ErrorKind::NotFound.into())
                }
            }
            Self::Archive { path, files } => {
                let &(begin, bytes) = files.get(name.as_bytes()).ok_or(io::ErrorKind::NotFound)?;
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(begin))?;
                Ok(file.take(bytes))
            }
        }
    }
}

impl ImageFiles {
    /// Reads a file in chunks, from that many bytes after its beginning.
    pub(super) async fn stream(&self, name: String, from_bytes: u64) -> Result<BlobStream, TransferError> {
        let files = self.clone();
        let open = move || {
            let mut file = files.open_file(&name)?;
            let skipped = from_bytes.min(file.limit());
            file.get_mut().seek_relative(skipped.cast_signed())?;
            file.set_limit(file.limit() - skipped);
            Ok(file)
        };
        let file = blocking(move || open().map_err(not_found_or(STEP))).await?;
        let limit = file.limit();
        let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file.into_inner()), limit);
        let chunks = ReaderStream::with_capacity(file, CHUNK_BYTES);
        Ok(chunks.map(|chunk| chunk.map_err(TransferError::store(STEP))).boxed())
    }
}

/// Why a path has no files.
#[derive(Debug)]
pub(super) enum NoFiles {
    /// The system refused to read it.
    Unreadable(io::Error),
    /// It is something else.
    Other(String),
}

fn not_found_or(step: &'static str) -> impl FnOnce(io::Error) -> TransferError {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => TransferError::NotFound,
        _ => TransferError::store(step)(error),
    }
}

fn list_archive(path: &Path) -> Result<HashMap<Vec<u8>, (u64, u64)>, NoFiles> {
    let file = File::open(path).map_err(NoFiles::Unreadable)?;
    let mut archive = Archive::new(BufReader::new(file));
    let mut files = HashMap::new();
    let no_archive = |error| NoFiles::Other(format!("it is no (uncompressed) tar archive: {error}"));
    while let Some(member) = archive.next_member().map_err(no_archive)? {
        if files.len() == MEMBERS_COUNT_MAX {
            return Err(NoFiles::Other(format!("it has more than {MEMBERS_COUNT_MAX} members")));
        }
        let bytes = archive.content_bytes();
        let begin = archive.skip_content().map_err(NoFiles::Unreadable)?;
        if let (MemberKind::File, Ok(name)) = (member.kind, MemberPath::parse(&member.name)) {
            files.insert(name.as_bytes().to_vec(), (begin, bytes));
        }
    }
    Ok(files)
}
