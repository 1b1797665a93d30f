//! Whiteouts: members that say what a layer removes from those below (OCI image spec, layer.md, "Whiteouts"), and what
//! overlayfs has for them (kernel, overlayfs.rst, "whiteouts and opaque directories").

use std::io;

use hypercore_copy::path::MemberPath;
use nix::sys::stat::SFlag;

use super::tree::{Tree, is_kind};

/// Beginning of a whiteout's name.
const PREFIX: &[u8] = b".wh.";
/// The name that empties its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Beginning of AUFS's own files, which old images have and docker leaves out.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What a layer removes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout {
    /// One file or directory of the layers below.
    Hide(MemberPath),
    /// Everything that layers below have in this directory.
    Empty(Vec<u8>),
    /// Nothing: a leftover of AUFS.
    Nothing,
}

impl Whiteout {
    /// Tells whether a member is a whiteout, and which.
    ///
    /// # Errors
    /// Why the whiteout is refused: it hides nothing that can have a name.
    pub(super) fn parse(path: &MemberPath) -> Result<Option<Self>, &'static str> {
        if path.as_bytes().split(|&b| b == b'/').any(|part| part.starts_with(AUFS_PREFIX) && part != OPAQUE) {
            return Ok(Some(Self::Nothing));
        }
        let Some((directory, name)) = path.split() else { return Ok(None) };
        if name == OPAQUE {
            return Ok(Some(Self::Empty(directory.to_vec())));
        }
        let Some(hidden) = name.strip_prefix(PREFIX) else { return Ok(None) };
        if matches!(hidden, b"" | b"." | b"..") {
            return Err("it is a whiteout without a name");
        }
        let hidden = [directory, b"/", hidden].concat();
        MemberPath::parse(&hidden)
            .map(|hidden| Some(Self::Hide(hidden)))
            .map_err(|_| "what it hides is no name")
    }

    /// Writes it as overlayfs has it. What the same layer has at that place stays: a whiteout only means those below.
    pub(super) fn apply(&self, tree: &mut Tree) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Empty(directory) => {
                let directory = tree.directory(directory)?;
                Tree::make_opaque(&directory)
            }
            Self::Hide(path) => {
                let place = tree.place(path)?;
                match place.stat()? {
                    None => place.create_node(SFlag::S_IFCHR, 0),
                    Some(stat) if is_kind(&stat, SFlag::S_IFDIR) => {
                        Tree::make_opaque(&*tree.directory(path.as_bytes())?)
                    }
                    Some(_) => Ok(()),
                }
            }
        }
    }
}
