//! Whose the copied files are, and how a workload's users are numbered outside of it (user_namespaces(7)).

use std::{fs::File, io, io::Read as _, os::fd::AsFd};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

/// Whose the files become that are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Whoever copies; set-id bits, which would speak for another user, are left out.
    Ours,
    /// As the stream says, in the numbers of the workload.
    Kept(IdMap),
}

/// The users and groups of a workload, and their numbers outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    users: Vec<Range>,
    groups: Vec<Range>,
}

/// So many ids from `inside` on are those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// Most bytes of a map: the kernel takes 340 lines.
const MAP_BYTES_MAX: u64 = 64 * 1024;

impl IdMap {
    /// Ids are the same inside and outside.
    #[must_use]
    pub fn identity() -> Self {
        let all = vec![Range { inside: 0, outside: 0, count: u32::MAX }];
        Self { users: all.clone(), groups: all }
    }

    /// So many ids from 0 on are those from `first` on outside, of users and groups alike.
    #[must_use]
    pub fn shifted(first: u32, count: u32) -> Self {
        let all = vec![Range { inside: 0, outside: first, count }];
        Self { users: all.clone(), groups: all }
    }

    /// The map of the process whose directory in `/proc` this is.
    pub(super) fn of_process(process: impl AsFd) -> io::Result<Self> {
        let read = |name: &str| {
            let opened = openat(&process, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            let mut text = String::new();
            File::from(opened).take(MAP_BYTES_MAX).read_to_string(&mut text)?;
            Ok::<_, io::Error>(parse(&text))
        };
        Ok(Self { users: read("uid_map")?, groups: read("gid_map")? })
    }

    /// The user and group outside; `None` for one that the workload doesn't have.
    pub(super) fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let find =
            |ranges: &[Range], id| ranges.iter().find_map(|range| range.map(id, range.inside, range.outside));
        Some((find(&self.users, uid)?, find(&self.groups, gid)?))
    }

    /// The user and group inside; nobody (65534) for one that the workload doesn't have, as the kernel shows it.
    pub(super) fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let find =
            |ranges: &[Range], id| ranges.iter().find_map(|range| range.map(id, range.outside, range.inside));
        (find(&self.users, uid).unwrap_or(65534), find(&self.groups, gid).unwrap_or(65534))
    }
}

impl Range {
    fn map(&self, id: u32, from: u32, to: u32) -> Option<u32> {
        let offset = id.checked_sub(from).filter(|offset| *offset < self.count)?;
        to.checked_add(offset)
    }
}

/// Lines of three numbers: inside, outside, count.
fn parse(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        Some(Range { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_moved_by_their_range() {
        let ranges = parse("         0     100000      65536\n  70000  5 1\n");
        let map = IdMap { users: ranges.clone(), groups: ranges };
        assert_eq!(map.outside(0, 1000), Some((100_000, 101_000)));
        assert_eq!(map.outside(70_000, 0), Some((5, 100_000)));
        assert_eq!(map.outside(65_536, 0), None);
        assert_eq!(map.inside(100_007, 5), (7, 70_000));
        assert_eq!(map.inside(0, 0), (65_534, 65_534));
        assert_eq!(IdMap::identity().outside(1000, 7), Some((1000, 7)));
    }

    #[test]
    fn our_own_map_can_be_read() {
        let process =
            nix::fcntl::open("/proc/self", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        assert!(!IdMap::of_process(&process).unwrap().users.is_empty());
    }
}
