//! Upper bounds of everything a person or a peer can hand in. Only numbers live here.

/// Longest workload name, in bytes: one DNS label (RFC 1035 §2.3.4), because names become host names.
pub const NAME_LEN_MAX: usize = 63;
/// Longest image reference, in bytes.
pub const IMAGE_REFERENCE_LEN_MAX: usize = 512;
/// Most environment variables of one workload.
pub const ENV_COUNT_MAX: usize = 1024;
/// Longest single environment variable (`KEY=VALUE`), in bytes: Linux's `MAX_ARG_STRLEN`.
pub const ENV_LEN_MAX: usize = 128 * 1024;
/// Most arguments of one command line.
pub const ARGV_COUNT_MAX: usize = 4096;
/// Longest single argument, in bytes: Linux's `MAX_ARG_STRLEN`.
pub const ARG_LEN_MAX: usize = 128 * 1024;
/// Most published ports of one workload.
pub const PORTS_COUNT_MAX: usize = 256;
/// Most labels of one workload.
pub const LABELS_COUNT_MAX: usize = 64;
/// Longest label key or value, in bytes.
pub const LABEL_LEN_MAX: usize = 256;
/// Longest path, in bytes: Linux's `PATH_MAX` without its NUL.
pub const PATH_LEN_MAX: usize = 4095;
/// Most mounts of one workload.
pub const MOUNTS_COUNT_MAX: usize = 64;
/// Longest time to live, in milliseconds: ten years.
pub const TTL_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;
/// Longest time a workload may take to end when it is asked to, in milliseconds: one day.
pub const STOP_GRACE_MS_MAX: u64 = 24 * 3600 * 1000;
/// Least CPU one can ask for, in thousandths of a CPU: below 1% the kernel's CFS period gets no whole slice.
pub const CPU_MILLIS_MIN: u32 = 10;
/// Most CPU one can ask for, in thousandths of a CPU.
pub const CPU_MILLIS_MAX: u32 = 1024 * 1000;
/// Least memory limit, in bytes: below this runc-class runtimes can't start a process inside the limit.
pub const MEMORY_BYTES_MIN: u64 = 6 * 1024 * 1024;
/// Most memory one can ask for, in bytes.
pub const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024 * 1024;
/// Memory of a microVM whose workload has no limit, in bytes.
pub const MICROVM_MEMORY_BYTES_DEFAULT: u64 = 512 * 1024 * 1024;
/// Most processes in one workload.
pub const PIDS_MAX: u32 = 4_194_304;
/// Processes a workload may have when nothing else was asked for.
pub const PIDS_DEFAULT: u32 = 4096;
/// Smallest disk, in bytes: a filesystem with its journal and room for something.
pub const DISK_SIZE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Largest disk, in bytes: half of the largest file of an ext4 filesystem on the host.
pub const DISK_SIZE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024 * 1024;
/// Least rate of a disk or a network, in bytes a second: below it, a boot takes hours and a connection never ends.
pub const RATE_BYTES_PER_S_MIN: u64 = 16 * 1024;
/// Most that can be asked for, in bytes a second: the kernel counts a second's worth of it in nanoseconds, in 64 bits.
pub const RATE_BYTES_PER_S_MAX: u64 = 8 << 30;
/// Least rate of disk operations, a second.
pub const RATE_OPS_PER_S_MIN: u64 = 10;
/// Most disk operations that can be asked for, a second.
pub const RATE_OPS_PER_S_MAX: u64 = 100_000_000;

const _: () = assert!(CPU_MILLIS_MIN < CPU_MILLIS_MAX);
const _: () = assert!(MEMORY_BYTES_MIN < MEMORY_BYTES_MAX);
const _: () = assert!(PIDS_DEFAULT <= PIDS_MAX);
