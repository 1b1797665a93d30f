//! What a node says of itself when it starts: that it is a member of its state, and how much workloads may reserve of
//! it. It refuses to say the first before its network is open: a subnet that is agreed on can't be changed any more.

use std::{fs, io, thread};

use hypercore_cluster::state::{Command, Rejection, Resources};
use hypercore_model::{Ipv4Cidr, NodeId};

use crate::{
    failure::chain,
    ledger::{Ledger, SubmitError},
};

/// Where the kernel says how much memory there is: proc(5).
const MEMINFO: &str = "/proc/meminfo";

/// Refuses another subnet than the one the state has for the node, before anything is made of it.
pub(crate) fn check(ledger: &Ledger, node: NodeId, asked: Ipv4Cidr) -> Result<(), Rejection> {
    match ledger.read(|state| state.node(&node).map(|record| record.subnet)) {
        Some(admitted) if admitted != asked => Err(Rejection::NodeExists { node, admitted, asked }),
        _ => Ok(()),
    }
}

/// Makes the node a member, and says what it has to give if that is news.
pub(crate) async fn admit(ledger: &Ledger, node: NodeId, subnet: Ipv4Cidr) -> Result<(), SubmitError> {
    ledger.submit(Command::AdmitNode { node, subnet }).await?;
    match capacity() {
        Ok(capacity) => drop(ledger.submit(Command::SetCapacity { node, capacity }).await?),
        // What it said before still holds; without that, nothing is refused.
        Err(error) => tracing::warn!(error = chain(&error), "the node's capacity can't be found out"),
    }
    Ok(())
}

/// Every CPU this process may use, and all memory.
fn capacity() -> io::Result<Resources> {
    let cpus = thread::available_parallelism()?.get() as u64;
    let memory_bytes = memory_bytes(&fs::read_to_string(MEMINFO)?)
        .ok_or_else(|| io::Error::other(format!("{MEMINFO} has no MemTotal")))?;
    Ok(Resources { cpu_millis: cpus * 1000, memory_bytes })
}

/// The `MemTotal` of `/proc/meminfo`, which is in KiB although it says kB.
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cpus_and_memory() {
        let capacity = capacity().unwrap();
        assert!(capacity.cpu_millis >= 1000 && capacity.memory_bytes > 64 << 20, "{capacity:?}");
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        for broken in ["", "MemFree: 1 kB", "MemTotal: x kB", "MemTotal: 18446744073709551615 kB"] {
            assert_eq!(memory_bytes(broken), None, "{broken}");
        }
    }
}
