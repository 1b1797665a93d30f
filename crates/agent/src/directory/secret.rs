//! Secrets in files, most of them 32 bytes: made once, flushed, for their owner's eyes alone. It refuses to read a file
//! that others can read, and never replaces one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{libc::O_NOFOLLOW, unistd::geteuid};
use zeroize::Zeroizing;

/// The bytes, erased on drop.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// Length of the file: two hexadecimal digits per byte and a line end.
const FILE_LEN: usize = 65;

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// There is no such file.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// Others may read the file.
    #[error("{path} can be read by others (mode {mode:03o}); run: chmod 600 {path}", path = .path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error("{path} belongs to the user {uid}, not to the one who runs this; run: chown {me} {path}", path = .path.display(), me = geteuid())]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// The file holds something else.
    #[error("{} is damaged: it must hold 64 hexadecimal digits", .0.display())]
    Content(PathBuf),
    /// The file can't be read.
    #[error("reading {} failed", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file can't be made.
    #[error("making {} failed", .path.display())]
    Make {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes")]
    Entropy(#[source] getrandom::Error),
}

/// Reads a secret after checking that it is one.
pub(super) fn read(path: &Path) -> Result<Secret, SecretError> {
    let text = read_text(path, FILE_LEN + 1)?;
    let mut secret = Secret::default();
    decode(text.trim_ascii_end(), &mut secret).ok_or_else(|| SecretError::Content(path.to_owned()))?;
    Ok(secret)
}

/// Reads a secret of another form, and no more than `len_max` bytes of it.
pub(crate) fn read_text(path: &Path, len_max: usize) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SecretError::Missing(path.to_owned()),
        _ => SecretError::Read { path: path.to_owned(), source },
    };
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path).map_err(failed)?;
    // Of the open file, so that nobody can swap it between the check and the reading.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if metadata.uid() != geteuid().as_raw() {
        return Err(SecretError::Owner { path: path.to_owned(), uid: metadata.uid() });
    }
    if mode & 0o077 != 0 {
        return Err(SecretError::Mode { path: path.to_owned(), mode });
    }
    // Of that size from the start: growing would leave pieces of the secret behind.
    let mut text = Zeroizing::new(Vec::with_capacity(len_max));
    file.take(len_max as u64).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// Draws a secret and writes it. When this returns, the file is complete and will be there after a loss of power;
/// a crash on the way leaves no file of that name.
pub(super) fn make(path: &Path) -> Result<Secret, SecretError> {
    let mut secret = Secret::default();
    getrandom::fill(&mut secret[..]).map_err(SecretError::Entropy)?;
    make_of(path, &encode(&secret))?;
    Ok(secret)
}

/// Writes a secret of another form as completely.
pub(crate) fn make_of(path: &Path, text: &[u8]) -> Result<(), SecretError> {
    write(path, text).map_err(|source| SecretError::Make { path: path.to_owned(), source })
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    // A link, unlike a rename, fails when the name is taken: an existing key is never replaced.
    fs::hard_link(&beside, path)?;
    fs::remove_file(&beside)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)?.sync_all()
}

fn encode(secret: &Secret) -> Zeroizing<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_LEN));
    for byte in secret.iter() {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text.push(b'\n');
    text
}

fn decode(text: &[u8], secret: &mut Secret) -> Option<()> {
    if text.len() != 2 * secret.len() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    for (byte, pair) in secret.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}
