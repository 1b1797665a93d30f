//! Ends the TCP connections that a machine had before it became another one, by the kernel's interface for that
//! (sock_diag(7), `SOCK_DESTROY`). It refuses to touch what listens, and what stays within the machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

/// Asks for sockets, and ends one (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// Flags of a request: a single one with an answer, and one for all there are (netlink(7)).
const REQUEST_WITH_ACK: u16 = 0x5;
const REQUEST_DUMP: u16 = 0x301;
/// The end of a dump, and an error or its absence.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// All states of a connection, but not listening, which is state 10 (net/tcp_states.h).
const STATES: u32 = 0xfff & !(1 << 10);
/// Bytes of a message's header, and of what identifies a socket (`struct inet_diag_sockid`).
const HEADER_LEN: usize = 16;
const SOCKET_LEN: usize = 48;
/// Where the socket is in an answer (`struct inet_diag_msg`), and where in it its own address is.
const SOCKET_AT: usize = HEADER_LEN + 4;
const SOURCE_AT: usize = 4;
/// Bytes that are received at once.
const ANSWER_LEN_MAX: usize = 32 * 1024;
/// Most sockets that are ended, of each family: more come from nothing but a flood.
const SOCKETS_MAX: usize = 65_536;

/// What identifies a socket to the kernel.
type Socket = [u8; SOCKET_LEN];

/// Ends all connections that are not within the machine. Their processes see them broken.
///
/// # Errors
/// A kernel that offers no such thing.
pub(crate) fn end() -> io::Result<()> {
    let kernel =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    // The kernel answers at once; this is for one that doesn't.
    setsockopt(&kernel, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(5, 0))?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        for found in find(&kernel, family)? {
            send(kernel.as_raw_fd(), &request(DESTROY, REQUEST_WITH_ACK, family, &found), MsgFlags::empty())?;
            // One that has ended meanwhile is none to end.
            let _ = answer(&kernel)?;
        }
    }
    Ok(())
}

fn find(kernel: &OwnedFd, family: u8) -> io::Result<Vec<Socket>> {
    let asked = request(BY_FAMILY, REQUEST_DUMP, family, &[0; SOCKET_LEN]);
    send(kernel.as_raw_fd(), &asked, MsgFlags::empty())?;
    let mut found = Vec::new();
    loop {
        let bytes = answer(kernel)?;
        let mut rest = &bytes[..];
        while let Some((kind, message, later)) = split(rest) {
            match kind {
                DONE => return Ok(found),
                ERROR => return Err(io::ErrorKind::Unsupported.into()),
                _ => {}
            }
            let of = message.get(SOCKET_AT..).and_then(|bytes| bytes.first_chunk::<SOCKET_LEN>());
            if let Some(of) = of.filter(|of| found.len() < SOCKETS_MAX && !is_local(family, of)) {
                found.push(*of);
            }
            rest = later;
        }
    }
}

fn answer(kernel: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; ANSWER_LEN_MAX];
    let len = recv(kernel.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
    bytes.truncate(len);
    Ok(bytes)
}

/// The first of several messages: its kind, itself, and those after it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let message = bytes.get(..len).filter(|_| len >= HEADER_LEN)?;
    let kind = u16::from_ne_bytes([message[4], message[5]]);
    Some((kind, message, bytes.get(len.next_multiple_of(4)..).unwrap_or(&[])))
}

/// A header and a `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, of: &Socket) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + 8 + SOCKET_LEN).expect("a small constant");
    let mut bytes = Vec::with_capacity(len as usize);
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend_from_slice(&STATES.to_ne_bytes());
    bytes.extend_from_slice(of);
    bytes
}

/// Whether both ends are in this machine, as far as its own address tells.
fn is_local(family: u8, of: &Socket) -> bool {
    let address = of[SOURCE_AT..].first_chunk::<16>().copied().unwrap_or_default();
    let address = if i32::from(family) == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3]))
    } else {
        IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
    };
    address.is_loopback() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(source: IpAddr) -> Socket {
        let mut of = [0; SOCKET_LEN];
        match source {
            IpAddr::V4(address) => of[SOURCE_AT..][..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => of[SOURCE_AT..][..16].copy_from_slice(&address.octets()),
        }
        of
    }

    #[test]
    fn what_stays_within_the_machine_is_left_alone() {
        for (address, is_within) in [
            ("127.0.0.1", true),
            ("0.0.0.0", true),
            ("172.16.0.2", false),
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:172.16.0.2", false),
            ("fd00::2", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
            assert_eq!(is_local(u8::try_from(family).unwrap(), &socket(address)), is_within, "{address}");
        }
    }

    #[test]
    fn messages_are_taken_apart_as_they_were_put_together() {
        let of = socket("172.16.0.2".parse().unwrap());
        let mut bytes = request(BY_FAMILY, REQUEST_DUMP, 2, &of);
        assert_eq!(bytes.len(), 72);
        let one = bytes.len();
        bytes.extend(request(DESTROY, REQUEST_WITH_ACK, 2, &of));
        let (kind, message, rest) = split(&bytes).unwrap();
        assert_eq!((kind, message.len(), rest.len()), (BY_FAMILY, one, one));
        assert_eq!(split(rest).unwrap().0, DESTROY);
        for damaged in [&bytes[..8], &bytes[..one - 1], &[0; 16][..], &[]] {
            assert!(split(damaged).is_none());
        }
    }
}
