//! What went through a workload's link, read from the host's end of it. Reading only.

use std::{fs, io, path::Path};

use hypercore_model::WorkloadId;

use super::{Network, attachment::veth_name};

/// Bytes that went through a workload's link since it was attached, as the workload sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// What came in.
    pub received_bytes: u64,
    /// What went out.
    pub sent_bytes: u64,
}

impl Network {
    /// What went through the workload's link so far.
    ///
    /// # Errors
    /// `NotFound` when it has no link; otherwise what the kernel said.
    pub fn traffic(&self, id: WorkloadId) -> io::Result<Traffic> {
        let name = veth_name(&self.config.bridge, id);
        read(&Path::new("/sys/class/net").join(name).join("statistics"))
    }
}

/// What the host sends into the link is what the workload receives.
fn read(statistics: &Path) -> io::Result<Traffic> {
    let number = |file: &str| {
        let text = fs::read_to_string(statistics.join(file))?;
        text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    };
    Ok(Traffic { received_bytes: number("tx_bytes")?, sent_bytes: number("rx_bytes")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_end_counts_the_other_way_round() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tx_bytes"), "7\n").unwrap();
        fs::write(directory.path().join("rx_bytes"), "3\n").unwrap();
        assert_eq!(read(directory.path()).unwrap(), Traffic { received_bytes: 7, sent_bytes: 3 });
        fs::write(directory.path().join("rx_bytes"), "many\n").unwrap();
        assert_eq!(read(directory.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
