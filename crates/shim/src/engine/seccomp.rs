//! The seccomp filter of every process in a container: what it may ask the kernel for.
//!
//! The profile ([`profile`] and [`allowed`]) is data; this makes the BPF program of it. Calls that are allowed whatever their arguments
//! are tested as ranges of numbers first, which keeps the program at some 200 instructions: the kernel runs all of it
//! for each of its calls when a filter is installed. Calls that depend on an argument are left to `seccompiler`.
//!
//! It refuses with EPERM what the profile doesn't name; with ENOSYS what is newer than the profile, so that C libraries
//! fall back to older calls; and it kills a process that uses another architecture's calls.

mod allowed;
mod profile;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use self::profile::Test;

/// The machine's architecture, as the kernel tells a filter (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
/// The machine's architecture, as the kernel tells a filter (linux/audit.h).
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offset of the call's number in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
/// Offset of the architecture in `struct seccomp_data`.
const ARCHITECTURE_OFFSET: u32 = 4;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JUMP_IF_NOT_LESS: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The filter's program.
///
/// # Errors
/// Only if the profile is malformed, which the tests rule out.
pub(super) fn program() -> Result<BpfProgram, BackendError> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE_OFFSET),
        jump(JUMP_IF_EQUAL, ARCHITECTURE, 1, 0),
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, NUMBER_OFFSET),
        jump(JUMP_IF_GREATER, profile::NEWEST, 0, 1),
        statement(RETURN, NO_SUCH_CALL),
    ];
    for &call in profile::NOT_IMPLEMENTED {
        program.extend([jump(JUMP_IF_EQUAL, number(call), 0, 1), statement(RETURN, NO_SUCH_CALL)]);
    }
    for (first, last) in ranges([allowed::ALLOWED, allowed::ALLOWED_OLDER]) {
        program.extend([
            jump(JUMP_IF_NOT_LESS, first, 0, 2),
            jump(JUMP_IF_GREATER, last, 1, 0),
            statement(RETURN, libc::SECCOMP_RET_ALLOW),
        ]);
    }
    program.extend(conditional()?);
    Ok(program)
}

/// The part for calls that depend on an argument; it ends with the refusal of everything else.
fn conditional() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in profile::CONDITIONAL {
        let conditions = match rule.test {
            Test::Between(first, last) => vec![(SeccompCmpOp::Ge, first), (SeccompCmpOp::Le, last)],
            Test::NoneOf(mask) => vec![(SeccompCmpOp::MaskedEq(mask), 0)],
        };
        let conditions = conditions
            .into_iter()
            // Only the lower half: the kernel cuts these arguments to an int too.
            .map(|(op, value)| SeccompCondition::new(rule.argument, SeccompCmpArgLen::Dword, op, value))
            .collect::<Result<Vec<_>, _>>()?;
        rules.entry(rule.call).or_default().push(SeccompRule::new(conditions)?);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Numbers that follow each other, joined: first and last of each run, ascending.
fn ranges(lists: [&[i64]; 2]) -> Vec<(u32, u32)> {
    let mut numbers: Vec<u32> = lists.iter().copied().flatten().map(|&call| number(call)).collect();
    numbers.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

fn number(call: i64) -> u32 {
    u32::try_from(call).expect("numbers of system calls are small and positive")
}

const fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests;
