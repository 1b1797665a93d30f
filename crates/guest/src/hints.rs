//! What the kernel's command line says to the agent: only what is of the machine, and can't be found out otherwise.
//! It refuses everything of the workload: that comes over the connection to the host.

use std::fs;

/// Serials of the disks in their order, on machines whose disks have no serials of ours.
const DISKS: &str = "hypercore.disks=";
/// How the machine ends when it can't be turned off.
const RESET: &str = "hypercore.end=reset";

/// The command line; empty when it can't be read.
fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

/// The place of the disk with this serial among the machine's disks, where the host said their order.
pub(crate) fn place_of_disk(serial: &str) -> Option<usize> {
    place_in(&command_line(), serial)
}

/// Whether the machine ends by a reset, because it has no power button.
pub(crate) fn ends_by_reset() -> bool {
    command_line().split_ascii_whitespace().any(|word| word == RESET)
}

fn place_in(command_line: &str, serial: &str) -> Option<usize> {
    let list = command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(DISKS))?;
    list.split(',').position(|name| name == serial)
}

/// The device of that place among names such as `vda`: in the order in which the kernel found them.
pub(crate) fn nth_disk(mut names: Vec<String>, place: usize) -> Option<String> {
    names.retain(|name| name.starts_with("vd"));
    // After vdz comes vdaa.
    names.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    names.into_iter().nth(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_found_by_their_order() {
        let line = "console=ttyS0 quiet hypercore.disks=image,writable,volume0 hypercore.end=reset\n";
        assert_eq!(place_in(line, "image"), Some(0));
        assert_eq!(place_in(line, "volume0"), Some(2));
        assert_eq!(place_in(line, "volume"), None);
        assert_eq!(place_in("console=ttyS0", "image"), None);
        let names = ["vdb", "loop0", "vdaa", "vda", "sda"].map(str::to_owned).to_vec();
        assert_eq!(nth_disk(names.clone(), 1).as_deref(), Some("vdb"));
        assert_eq!(nth_disk(names.clone(), 2).as_deref(), Some("vdaa"));
        assert_eq!(nth_disk(names, 3), None);
    }
}
