//! Tar streams for tests, hostile ones included: names and links are written as given, nothing is checked.

use tar::{EntryType, Header};

/// A tar stream being written.
#[derive(Default)]
pub(super) struct TarFixture {
    bytes: Vec<u8>,
}

impl TarFixture {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a member after `change` had its way with the header.
    pub(super) fn member(
        mut self,
        kind: EntryType,
        name: &str,
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        change(&mut header);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, content: &[u8]) -> Self {
        self.member(EntryType::Regular, name, content, |_| {})
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.member(EntryType::Directory, name, b"", |_| {})
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    pub(super) fn hardlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    pub(super) fn device(self, name: &str, major: u32, minor: u32) -> Self {
        self.member(EntryType::Char, name, b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// Adds an extended header for the next member.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let content: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        self.member(EntryType::XHeader, "pax", &content, |_| {})
    }

    /// The stream with its end marker.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.member(kind, name, b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    // The length counts its own digits too.
    let len = (1..)
        .map(|digits| digits + rest.len())
        .find(|len| len.to_string().len() + rest.len() == *len)
        .unwrap();
    [len.to_string().as_bytes(), &rest].concat()
}
