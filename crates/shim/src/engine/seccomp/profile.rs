//! The seccomp profile as data: what docker's default profile allows to a container with the default capabilities.
//! Refused are, among others: mounting, namespaces, keyrings, modules, BPF, perf, io_uring, userfaultfd, reboot, swap,
//! clocks, and sockets to the hypervisor or the kernel's cryptography.
//! It refuses nothing by argument where the kernel would have to follow a pointer: a filter can't.

/// A call that is allowed when one of its arguments passes a test. Several rules for one call are alternatives.
#[derive(Debug)]
pub(super) struct Rule {
    /// The call.
    pub(super) call: i64,
    /// Index of the argument, from 0 on.
    pub(super) argument: u8,
    /// What it must be; 32 bits count.
    pub(super) test: Test,
}

/// A test of an argument.
#[derive(Debug)]
pub(super) enum Test {
    /// From the first to the last value, both included.
    Between(u64, u64),
    /// None of these bits is set.
    NoneOf(u64),
}

/// The newest call this profile was written for (Linux 6.13, `removexattrat`).
pub(super) const NEWEST: u32 = 466;

/// Calls that C libraries try first and do without: their arguments lie behind a pointer, so that no filter can tell
/// whether a new namespace is asked for.
pub(super) const NOT_IMPLEMENTED: &[i64] = &[libc::SYS_clone3];

/// Flags of clone(2) that make namespaces: mount, cgroup, UTS, IPC, user, pid, network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Calls that are allowed depending on an argument.
pub(super) const CONDITIONAL: &[Rule] = &[
    Rule { call: libc::SYS_clone, argument: 0, test: Test::NoneOf(CLONE_NAMESPACES) },
    // Plain Linux, 32-bit Linux, both also as UNAME26, and the question what it is. Not: no address randomization,
    // nor a readable page at address 0.
    personality(0x0000_0000),
    personality(0x0000_0008),
    personality(0x0002_0000),
    personality(0x0002_0008),
    personality(0xffff_ffff),
    // Address families of socket(2). Left out: DECnet 12, Econet 19, ATM 20, IrDA 23, 25, IUCV 34, 37, the kernel's
    // cryptography (AF_ALG) 38, the hypervisor (AF_VSOCK) 40.
    families(0, 11),
    families(13, 18),
    families(21, 22),
    families(24, 24),
    families(26, 33),
    families(35, 36),
    families(39, 39),
    families(41, 45),
];

const fn personality(value: u64) -> Rule {
    Rule { call: libc::SYS_personality, argument: 0, test: Test::Between(value, value) }
}

const fn families(first: u64, last: u64) -> Rule {
    Rule { call: libc::SYS_socket, argument: 0, test: Test::Between(first, last) }
}
