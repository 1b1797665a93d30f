//! The filter's program, run by a small interpreter of the BPF that it uses.

use super::*;

/// What the kernel would do: the value of the RET that the program reaches.
fn run(program: &[sock_filter], architecture: u32, call: u32, argument: u32) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let step = &program[at];
        at += 1;
        let taken = match step.code {
            LOAD => {
                accumulator = match step.k {
                    NUMBER_OFFSET => call,
                    ARCHITECTURE_OFFSET => architecture,
                    16 => argument,
                    offset => panic!("loads offset {offset}"),
                };
                continue;
            }
            RETURN => return step.k,
            0x54 => {
                accumulator &= step.k;
                continue;
            }
            0x05 => {
                at += step.k as usize;
                continue;
            }
            JUMP_IF_EQUAL => accumulator == step.k,
            JUMP_IF_GREATER => accumulator > step.k,
            JUMP_IF_NOT_LESS => accumulator >= step.k,
            code => panic!("instruction {code:#x}"),
        };
        at += usize::from(if taken { step.jt } else { step.jf });
    }
}

fn verdict(call: i64, argument: u32) -> u32 {
    run(&program().unwrap(), ARCHITECTURE, number(call), argument)
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

#[test]
fn ordinary_calls_are_allowed_and_dangerous_ones_are_not() {
    for &call in allowed::ALLOWED.iter().chain(allowed::ALLOWED_OLDER) {
        assert_eq!(verdict(call, 0xdead), ALLOW, "{call}");
    }
    for call in [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_reboot,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_open_by_handle_at,
        libc::SYS_settimeofday,
        libc::SYS_sethostname,
        libc::SYS_swapon,
        libc::SYS_fsopen,
        libc::SYS_move_mount,
        libc::SYS_syslog,
    ] {
        assert_eq!(verdict(call, 0), REFUSE, "{call}");
    }
}

#[test]
fn arguments_decide_where_they_must() {
    for (call, argument, expected) in [
        (libc::SYS_clone, libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_FILES, ALLOW),
        (libc::SYS_clone, libc::SIGCHLD, ALLOW),
        (libc::SYS_clone, libc::CLONE_NEWUSER, REFUSE),
        (libc::SYS_clone, libc::CLONE_NEWNET | libc::SIGCHLD, REFUSE),
        (libc::SYS_clone, libc::CLONE_NEWNS, REFUSE),
        (libc::SYS_clone, libc::CLONE_NEWCGROUP, REFUSE),
        (libc::SYS_personality, 0, ALLOW),
        (libc::SYS_personality, -1, ALLOW),
        (libc::SYS_personality, libc::ADDR_NO_RANDOMIZE, REFUSE),
        (libc::SYS_socket, libc::AF_UNIX, ALLOW),
        (libc::SYS_socket, libc::AF_INET6, ALLOW),
        (libc::SYS_socket, libc::AF_NETLINK, ALLOW),
        (libc::SYS_socket, libc::AF_PACKET, ALLOW),
        (libc::SYS_socket, libc::AF_XDP, ALLOW),
        (libc::SYS_socket, libc::AF_ALG, REFUSE),
        (libc::SYS_socket, libc::AF_VSOCK, REFUSE),
        (libc::SYS_socket, 46, REFUSE),
    ] {
        assert_eq!(verdict(call, argument.cast_unsigned()), expected, "{call} {argument:#x}");
    }
}

#[test]
fn unknown_calls_are_not_implemented_and_foreign_ones_kill() {
    assert_eq!(verdict(libc::SYS_clone3, 0), NO_SUCH_CALL);
    assert_eq!(verdict(i64::from(profile::NEWEST) + 1, 0), NO_SUCH_CALL);
    // A call of the x32 interface, which shares the architecture.
    assert_eq!(verdict(0x4000_0000, 0), NO_SUCH_CALL);
    let i386 = 0x4000_0003;
    assert_eq!(run(&program().unwrap(), i386, 3, 0), libc::SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn the_program_is_short() {
    assert!(program().unwrap().len() < 350, "{}", program().unwrap().len());
}
