//! What a workload gets mounted besides its image: host directories, named volumes and memory.
//! It refuses to look at the disk: whether a path or a volume exists is the node's to say.

use std::{path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{limits::PATH_LEN_MAX, name::NameError, text::label, units::parse_size};

/// Why a text is not a mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not of the form that `-v` takes.
    #[error(
        "`{0}` is not a mount: write SOURCE:TARGET or SOURCE:TARGET:ro, with a volume's name or an absolute path as SOURCE"
    )]
    Form(String),
    /// Not of the form that `--tmpfs` takes.
    #[error("`{0}` is not a tmpfs: write TARGET or TARGET:size=SIZE, such as /tmp:size=64MiB")]
    TmpfsForm(String),
    /// A path inside the workload, or on the host, that can't be mounted.
    #[error(
        "`{0}` can't be mounted on or from: it must be an absolute path without `..`, not `/` itself inside"
    )]
    Path(String),
    /// Not a volume's name.
    #[error("not a volume's name: {0}")]
    Volume(#[from] NameError),
}

label! {
    /// The name of a volume: 1 to 63 of `a-z 0-9 -`, not beginning or ending with `-`.
    VolumeName
}

/// Where the content of a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A directory or file of the node's host.
    Bind(PathBuf),
    /// A volume of the node, made when it isn't there.
    Volume(VolumeName),
    /// Memory, gone with the workload.
    Tmpfs {
        /// Most bytes in it; `None` is half of the workload's memory limit, or of the host's memory.
        size_bytes: Option<u64>,
    },
}

/// One mount of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where its content comes from.
    pub source: MountSource,
    /// Where it appears inside: absolute, never `/`.
    pub target: String,
    /// Whether the workload may only read it.
    #[serde(default)]
    pub read_only: bool,
}

impl Mount {
    /// Reads `TARGET[:size=SIZE]`, the form that `--tmpfs` takes.
    ///
    /// # Errors
    /// [`MountError`], naming the text.
    pub fn tmpfs(text: &str) -> Result<Self, MountError> {
        let bad = || MountError::TmpfsForm(text.to_owned());
        let (target, size_bytes) = match text.split_once(':') {
            None => (text, None),
            Some((target, options)) => {
                let size = options.strip_prefix("size=").and_then(parse_size).filter(|size| *size > 0);
                (target, Some(size.ok_or_else(bad)?))
            }
        };
        let mount =
            Self { source: MountSource::Tmpfs { size_bytes }, target: target.to_owned(), read_only: false };
        mount.check().map(|()| mount)
    }

    /// Checks the paths, for mounts that were put together field by field.
    ///
    /// # Errors
    /// [`MountError::Path`], naming the path.
    pub fn check(&self) -> Result<(), MountError> {
        check_path(&self.target)?;
        if self.target.trim_end_matches('/').is_empty() {
            return Err(MountError::Path(self.target.clone()));
        }
        match &self.source {
            MountSource::Bind(path) => {
                let path = path.to_str().ok_or_else(|| MountError::Path(path.display().to_string()))?;
                check_path(path)
            }
            MountSource::Volume(_) | MountSource::Tmpfs { .. } => Ok(()),
        }
    }
}

impl FromStr for Mount {
    type Err = MountError;

    /// Reads `SOURCE:TARGET[:ro|:rw]`, the form that `-v` takes.
    fn from_str(text: &str) -> Result<Self, MountError> {
        let bad = || MountError::Form(text.to_owned());
        let mut parts = text.split(':');
        let (source, target) = (parts.next().ok_or_else(bad)?, parts.next().ok_or_else(bad)?);
        let read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(_) => return Err(bad()),
        };
        if parts.next().is_some() || source.is_empty() {
            return Err(bad());
        }
        let source = if source.starts_with('/') {
            MountSource::Bind(PathBuf::from(source))
        } else {
            MountSource::Volume(source.parse()?)
        };
        let mount = Self { source, target: target.to_owned(), read_only };
        mount.check().map(|()| mount)
    }
}

fn check_path(path: &str) -> Result<(), MountError> {
    let is_good = path.starts_with('/')
        && path.len() <= PATH_LEN_MAX
        && !path.contains(char::is_control)
        && path.split('/').all(|part| part != "..");
    if is_good { Ok(()) } else { Err(MountError::Path(path.escape_default().to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_bind_and_a_name_is_a_volume() {
        let bind: Mount = "/srv/data:/data:ro".parse().unwrap();
        assert_eq!(bind.source, MountSource::Bind("/srv/data".into()));
        assert!(bind.read_only);
        let volume: Mount = "cache:/var/cache".parse().unwrap();
        assert_eq!(volume.source, MountSource::Volume("cache".parse().unwrap()));
        assert!(!volume.read_only);
    }

    #[test]
    fn a_tmpfs_may_have_a_size() {
        let of = |text: &str| Mount::tmpfs(text).unwrap().source;
        assert_eq!(of("/tmp"), MountSource::Tmpfs { size_bytes: None });
        assert_eq!(of("/tmp:size=64MiB"), MountSource::Tmpfs { size_bytes: Some(64 << 20) });
        for text in ["", "tmp", "/", "/tmp:", "/tmp:size=", "/tmp:size=0", "/tmp:mode=1", "/a/../b"] {
            assert!(Mount::tmpfs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for text in [
            "",
            ":",
            "a",
            "a:",
            ":/a",
            "a:b",
            "/a:/",
            "/a:/b:x",
            "/a:/b:ro:ro",
            "../a:/b",
            "/a/../b:/c",
            "/a:/b/..",
            "A:/b",
            "/a\n:/b",
        ] {
            assert!(text.parse::<Mount>().is_err(), "{text:?}");
        }
    }
}
