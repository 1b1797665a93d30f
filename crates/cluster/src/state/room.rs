//! What workloads may reserve of a node, and what of it is still free. It refuses to measure: a reservation is what was
//! asked for, whether it is used or not, and what asked for nothing reserves nothing.

use std::fmt;

use hypercore_model::{Isolation, MemoryBytes, NodeId, WorkloadSpec, limits::MICROVM_MEMORY_BYTES_DEFAULT};
use serde::{Deserialize, Serialize};

use crate::state::{State, record::WorkloadRecord, rejection::Rejection};

/// Amounts of what a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of one CPU.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Resources {
    /// What a workload of this spec reserves: its limits. A machine has as much memory as it was given, whether that was
    /// said or not.
    #[must_use]
    pub fn of(spec: &WorkloadSpec) -> Self {
        let unlimited = match spec.isolation {
            Isolation::Container => 0,
            Isolation::MicroVm => MICROVM_MEMORY_BYTES_DEFAULT,
        };
        Self {
            cpu_millis: spec.cpu.map_or(0, |cpu| cpu.millis().into()),
            memory_bytes: spec.memory.map_or(unlimited, MemoryBytes::bytes),
        }
    }

    /// Whether it is nothing at all.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// What is left without `other`; nothing is the least.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }
}

/// One sort of what a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// CPU, in thousandths of one.
    Cpu,
    /// Memory, in bytes.
    Memory,
}

impl Resource {
    /// An amount of it for people.
    pub(crate) fn show(self, amount: u64) -> String {
        const MIB: u64 = 1 << 20;
        match self {
            Self::Cpu => format!("{}.{:03}", amount / 1000, amount % 1000)
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned(),
            // Rounded down: what is said to be free is.
            Self::Memory => format!("{}MiB", amount / MIB),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
        })
    }
}

impl State {
    /// What the workloads of a node reserve: all that exist and are not known to have ended for good.
    #[must_use]
    pub fn reserved(&self, node: &NodeId) -> Resources {
        self.reserved.get(node).copied().unwrap_or_default()
    }

    /// Whether a workload of this spec may be made on the node now: its name is free, and there is room.
    ///
    /// # Errors
    /// [`Rejection::UnknownNode`], [`Rejection::NameTaken`] or [`Rejection::NoRoom`].
    pub fn admits(&self, spec: &WorkloadSpec, node: NodeId) -> Result<(), Rejection> {
        let record = self.node(&node).ok_or(Rejection::UnknownNode(node))?;
        if let Some(holder) = spec.name.as_ref().and_then(|name| self.by_name(name)) {
            let name = holder.spec.name.clone().expect("it was found by its name");
            return Err(Rejection::NameTaken { name, by: holder.id });
        }
        let Some(capacity) = record.capacity else { return Ok(()) };
        let (asked, reserved) = (Resources::of(spec), self.reserved(&node));
        let free = capacity.minus(reserved);
        let amounts = [
            (Resource::Cpu, asked.cpu_millis, free.cpu_millis, capacity.cpu_millis),
            (Resource::Memory, asked.memory_bytes, free.memory_bytes, capacity.memory_bytes),
        ];
        match amounts.into_iter().find(|(_, asked, free, _)| asked > free) {
            Some((what, asked, free, capacity)) => Err(Rejection::NoRoom { what, asked, free, capacity }),
            None => Ok(()),
        }
    }

    /// Keeps the index in step with one workload's record: `before` goes, `after` comes.
    pub(super) fn reserve(&mut self, before: Option<&WorkloadRecord>, after: Option<&WorkloadRecord>) {
        for (record, is_new) in [(before, false), (after, true)] {
            let Some(record) = record.filter(|record| !record.ended) else { continue };
            let amount = Resources::of(&record.spec);
            if amount.is_none() {
                continue;
            }
            let sum = self.reserved.entry(record.node).or_default();
            *sum = if is_new { sum.plus(amount) } else { sum.minus(amount) };
            if sum.is_none() {
                self.reserved.remove(&record.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_as_people_write_them() {
        for (amount, text) in [(0, "0"), (500, "0.5"), (2000, "2"), (1250, "1.25"), (10, "0.01")] {
            assert_eq!(Resource::Cpu.show(amount), text);
        }
        assert_eq!(Resource::Memory.show((64 << 20) + 5), "64MiB");
    }
}
