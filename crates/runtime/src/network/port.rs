//! Host ports: taking one for a workload, and finding out who has it when that fails. A taken port stays bound by a
//! socket that never listens, so that no other program can take it as long as it leads to a workload.

use std::{
    collections::HashSet,
    fmt, fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
    num::NonZeroU16,
    os::fd::{AsRawFd as _, OwnedFd},
};

use hypercore_model::{PortProtocol, WorkloadId};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, getsockname,
        setsockopt, socket,
        sockopt::{Ipv6V6Only, ReuseAddr},
    },
};

/// Who has a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortHolder {
    /// A workload of this node.
    Workload(WorkloadId),
    /// A process of the host.
    Process {
        /// Its process id.
        pid: u32,
        /// Its short name.
        name: String,
    },
    /// Somebody this process can't see: in another container, or gone by now.
    Unknown,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "workload {}", id.short()),
            Self::Process { pid, name } => write!(f, "{name} (pid {pid})"),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

/// A host port that nobody else can take while this exists.
#[derive(Debug)]
pub(super) struct HeldPort {
    pub(super) number: NonZeroU16,
    _socket: OwnedFd,
}

/// Which of the host's addresses a port is taken at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// All of IPv4.
    V4,
    /// All of IPv4 and of IPv6.
    Both,
}

/// Takes a port on all of the host's addresses; `None` takes a free one of the ephemeral range.
/// `EADDRINUSE` means that somebody listens on it, on any address.
pub(super) fn hold(family: Family, port: Option<NonZeroU16>, protocol: PortProtocol) -> io::Result<HeldPort> {
    let kind = match protocol {
        PortProtocol::Tcp => SockType::Stream,
        PortProtocol::Udp => SockType::Datagram,
    };
    let number = port.map_or(0, NonZeroU16::get);
    let (domain, address) = match family {
        Family::V4 => {
            let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, number);
            (AddressFamily::Inet, SockaddrStorage::from(any))
        }
        Family::Both => {
            let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, number, 0, 0);
            (AddressFamily::Inet6, SockaddrStorage::from(any))
        }
    };
    let socket = socket(domain, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if family == Family::Both {
        setsockopt(&socket, Ipv6V6Only, &false)?;
    }
    // For TCP, old connections in TIME_WAIT must not count as holders; listeners still do. It is taken back after the
    // bind, so that a listener which comes later doesn't get to share the port (socket(7), SO_REUSEADDR).
    let is_tcp = protocol == PortProtocol::Tcp;
    if is_tcp {
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &address)?;
    if is_tcp {
        setsockopt(&socket, ReuseAddr, &false)?;
    }
    let number = NonZeroU16::new(bound_port(&socket)?).ok_or(Errno::EADDRNOTAVAIL)?;
    Ok(HeldPort { number, _socket: socket })
}

fn bound_port(socket: &OwnedFd) -> io::Result<u16> {
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let port = bound.as_sockaddr_in().map(SockaddrIn::port);
    Ok(port.or_else(|| bound.as_sockaddr_in6().map(SockaddrIn6::port)).unwrap_or_default())
}

/// The process that has a port bound, if it can be found out.
pub(super) fn holder_of(port: NonZeroU16, protocol: PortProtocol) -> PortHolder {
    let inodes: HashSet<u64> = ["", "6"]
        .into_iter()
        // The thread's own view: `/proc/net` would be the main thread's namespace.
        .map(|version| format!("/proc/thread-self/net/{}{version}", protocol.as_str()))
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| bound_inodes(&table, port, protocol))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    match pids.find(|pid| has_socket(*pid, &inodes)) {
        Some(pid) => {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            PortHolder::Process { pid, name: name.trim().to_owned() }
        }
        None => PortHolder::Unknown,
    }
}

fn has_socket(pid: u32, inodes: &HashSet<u64>) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let inode =
            target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

/// Inodes of the sockets that keep a port from being bound, in a table in the format of `/proc/net/tcp` (proc(5)):
/// `sl local_address rem_address st ... inode`, addresses in hexadecimal.
fn bound_inodes(table: &str, port: NonZeroU16, protocol: PortProtocol) -> Vec<u64> {
    /// `TCP_LISTEN` and `TCP_CLOSE` (bound only) of the kernel's `tcp_states.h`; UDP sockets are always in the latter
    /// or connected.
    const HOLDING: [&str; 2] = ["0A", "07"];
    let inode_of = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_holding = protocol == PortProtocol::Udp || HOLDING.contains(fields.get(3)?);
        let is_port = u16::from_str_radix(local_port, 16) == Ok(port.get());
        fields.get(9).filter(|_| is_port && is_holding)?.parse().ok()
    };
    table.lines().skip(1).filter_map(inode_of).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn port_of(address: io::Result<std::net::SocketAddr>) -> NonZeroU16 {
        NonZeroU16::new(address.unwrap().port()).unwrap()
    }

    #[test]
    fn a_held_port_can_be_taken_by_nobody_else() {
        let cases = [(Family::V4, "127.0.0.1"), (Family::Both, "127.0.0.1"), (Family::Both, "::1")];
        for (protocol, (family, address)) in cases
            .into_iter()
            .flat_map(|case| [PortProtocol::Tcp, PortProtocol::Udp].map(|protocol| (protocol, case)))
        {
            let held = hold(family, None, protocol).unwrap();
            let again = hold(family, Some(held.number), protocol).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
            let address = (address, held.number.get());
            let taken = match protocol {
                PortProtocol::Tcp => TcpListener::bind(address).map(drop),
                PortProtocol::Udp => UdpSocket::bind(address).map(drop),
            };
            assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse, "{protocol:?} {address:?}");
        }
    }

    #[test]
    fn a_listener_on_one_address_holds_the_port_and_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port_of(listener.local_addr());
        let error = hold(Family::Both, Some(port), PortProtocol::Tcp).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let holder = holder_of(port, PortProtocol::Tcp);
        assert!(matches!(holder, PortHolder::Process { pid, .. } if pid == std::process::id()), "{holder}");
    }

    #[test]
    fn a_udp_socket_holds_its_port_and_is_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = port_of(socket.local_addr());
        assert!(hold(Family::Both, Some(port), PortProtocol::Udp).is_err());
        let holder = holder_of(port, PortProtocol::Udp);
        assert!(matches!(holder, PortHolder::Process { pid, .. } if pid == std::process::id()), "{holder}");
    }

    #[test]
    fn a_table_is_searched_for_the_port_and_for_listeners() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
             1: 0100007F:1F90 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n\
             2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n";
        let port = |number| NonZeroU16::new(number).unwrap();
        assert_eq!(bound_inodes(table, port(8080), PortProtocol::Tcp), [4711]);
        assert_eq!(bound_inodes(table, port(80), PortProtocol::Tcp), [4713]);
        assert_eq!(bound_inodes(table, port(8081), PortProtocol::Tcp), [0u64; 0]);
    }
}
