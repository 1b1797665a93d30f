//! The machine's one network interface, by the kernel's old and small interface for that (netdevice(7)).
//! It refuses to guess: addresses and gateways are what the host says, and nothing is asked of the network.

use std::{
    fs, io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use hypercore_wire::message::Prepare;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{boot, connections};

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// There is none to configure.
    #[error("the machine has no network interface")]
    NoInterface,
    /// The host sent what is no address.
    #[error("`{0}` is not an address")]
    Address(String),
    /// The kernel refused.
    #[error("{step} of {interface}: {source}")]
    Kernel {
        /// What was to be done.
        step: &'static str,
        /// To which interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
}

/// The argument of the interface ioctls: as `libc::ifreq`, with the one union member that a call uses spelled out.
#[repr(C)]
struct Request<T> {
    name: [libc::c_char; libc::IFNAMSIZ],
    value: T,
    padding: [u8; 24],
}

/// The argument of `SIOCSIFADDR` on an IPv6 socket (linux/ipv6.h, `struct in6_ifreq`).
#[repr(C)]
struct Request6 {
    address: libc::in6_addr,
    prefix_len: u32,
    index: libc::c_int,
}

/// The argument of `SIOCADDRT` on an IPv6 socket (linux/ipv6_route.h, `struct in6_rtmsg`).
#[repr(C)]
struct Route6 {
    destination: libc::in6_addr,
    source: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    destination_len: u16,
    source_len: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: libc::c_int,
}

/// An interface and a socket of each family to speak about it.
struct Interface {
    name: String,
    v4: OwnedFd,
    v6: Option<OwnedFd>,
}

/// Gives the interface what the host says. Taking it down first makes it forget all that was said before; when it was
/// another machine's, that one's connections end here, while nothing can tell their other ends.
pub(crate) fn configure(wanted: &Prepare, is_again: bool) -> Result<(), NetworkError> {
    bring_up("lo")?;
    if wanted.addresses.is_empty() && !is_again {
        return Ok(());
    }
    let interface = match Interface::find() {
        Err(NetworkError::NoInterface) if wanted.addresses.is_empty() => return Ok(()),
        found => found?,
    };
    interface.set_flag("taking down", libc::IFF_UP, false)?;
    if is_again && let Err(error) = connections::end() {
        // They hang until they time out, without an address that anything could answer to.
        boot::complain(&format!("the connections of the machine that was saved can't be ended: {error}"));
    }
    if wanted.addresses.is_empty() {
        return Ok(());
    }
    interface.set_flag("the way of finding neighbours", libc::IFF_NOARP, wanted.is_point_to_point)?;
    if let Some(text) = &wanted.hardware_address {
        interface.set_hardware_address(parse_hardware_address(text)?)?;
    }
    let addresses: Vec<(IpAddr, u32)> =
        wanted.addresses.iter().map(|text| parse_prefix(text)).collect::<Result<_, _>>()?;
    for (address, prefix_len) in &addresses {
        if let IpAddr::V4(address) = address {
            interface.add_address4(*address, *prefix_len)?;
        }
    }
    interface.set_flag("bringing up", libc::IFF_UP, true)?;
    for (address, prefix_len) in &addresses {
        if let IpAddr::V6(address) = address {
            interface.add_address6(*address, *prefix_len)?;
        }
    }
    for gateway in &wanted.gateways {
        match gateway.parse() {
            Ok(IpAddr::V4(gateway)) => interface.add_route4(gateway)?,
            Ok(IpAddr::V6(gateway)) => interface.add_route6(gateway)?,
            Err(_) => return Err(NetworkError::Address(gateway.clone())),
        }
    }
    Ok(())
}

fn bring_up(name: &str) -> Result<(), NetworkError> {
    Interface::open(name.to_owned())?.set_flag("bringing up", libc::IFF_UP, true)
}

impl Interface {
    /// The first one that is not the loopback.
    fn find() -> Result<Self, NetworkError> {
        let names = fs::read_dir("/sys/class/net").ok().into_iter().flatten().flatten();
        let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name != "lo" && name.len() < libc::IFNAMSIZ);
        names.sort();
        Self::open(names.into_iter().next().ok_or(NetworkError::NoInterface)?)
    }

    fn open(name: String) -> Result<Self, NetworkError> {
        let open = |family| socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
        let v4 = open(AddressFamily::Inet).map_err(|error| NetworkError::Kernel {
            step: "opening a socket",
            interface: name.clone(),
            source: error.into(),
        })?;
        // A kernel without IPv6 is one that nobody gives such an address.
        Ok(Self { name, v4, v6: open(AddressFamily::Inet6).ok() })
    }

    fn request<T>(&self, value: T) -> Request<T> {
        let mut name = [0; libc::IFNAMSIZ];
        for (slot, byte) in name.iter_mut().zip(self.name.bytes()) {
            *slot = byte as libc::c_char;
        }
        Request { name, value, padding: [0; 24] }
    }

    #[allow(unsafe_code, reason = "interfaces are configured by ioctl")]
    fn tell<T>(
        &self,
        step: &'static str,
        socket: &OwnedFd,
        number: libc::c_ulong,
        mut argument: T,
    ) -> Result<T, NetworkError> {
        // SAFETY: each caller passes the structure that the kernel reads for this number, which is at least as long.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), number as _, &raw mut argument) };
        if result < 0 {
            let source = io::Error::last_os_error();
            return Err(NetworkError::Kernel { step, interface: self.name.clone(), source });
        }
        Ok(argument)
    }

    fn set_flag(&self, step: &'static str, flag: libc::c_int, is_on: bool) -> Result<(), NetworkError> {
        let mut flags = self.tell(step, &self.v4, libc::SIOCGIFFLAGS, self.request(0 as libc::c_short))?;
        let flag = flag as libc::c_short;
        flags.value = if is_on { flags.value | flag } else { flags.value & !flag };
        self.tell(step, &self.v4, libc::SIOCSIFFLAGS, flags).map(drop)
    }

    fn set_hardware_address(&self, address: [u8; 6]) -> Result<(), NetworkError> {
        let mut data = [0; 14];
        for (slot, byte) in data.iter_mut().zip(address) {
            *slot = byte as libc::c_char;
        }
        let value = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
        self.tell("the hardware address", &self.v4, libc::SIOCSIFHWADDR, self.request(value)).map(drop)
    }

    fn add_address4(&self, address: Ipv4Addr, prefix_len: u32) -> Result<(), NetworkError> {
        let mask = u32::MAX.checked_shl(32 - prefix_len).unwrap_or(0);
        for (step, number, value) in [
            ("the address", libc::SIOCSIFADDR, address),
            ("the netmask", libc::SIOCSIFNETMASK, Ipv4Addr::from(mask)),
        ] {
            self.tell(step, &self.v4, number, self.request(socket_address(value)))?;
        }
        Ok(())
    }

    fn add_route4(&self, gateway: Ipv4Addr) -> Result<(), NetworkError> {
        #[allow(unsafe_code, reason = "a C structure whose zero is its default")]
        // SAFETY: all fields are numbers, arrays of numbers and pointers, for which zero is valid.
        let mut route: libc::rtentry = unsafe { mem::zeroed() };
        route.rt_dst = generic(socket_address(Ipv4Addr::UNSPECIFIED));
        route.rt_genmask = generic(socket_address(Ipv4Addr::UNSPECIFIED));
        route.rt_gateway = generic(socket_address(gateway));
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        self.tell("the default route", &self.v4, libc::SIOCADDRT, route).map(drop)
    }

    fn add_address6(&self, address: Ipv6Addr, prefix_len: u32) -> Result<(), NetworkError> {
        let Some(socket) = &self.v6 else { return Ok(()) };
        let address = libc::in6_addr { s6_addr: address.octets() };
        let request = Request6 { address, prefix_len, index: self.index()? };
        self.tell("the IPv6 address", socket, libc::SIOCSIFADDR, request).map(drop)
    }

    fn add_route6(&self, gateway: Ipv6Addr) -> Result<(), NetworkError> {
        let Some(socket) = &self.v6 else { return Ok(()) };
        let any = libc::in6_addr { s6_addr: [0; 16] };
        let route = Route6 {
            destination: any,
            source: any,
            gateway: libc::in6_addr { s6_addr: gateway.octets() },
            kind: 0,
            destination_len: 0,
            source_len: 0,
            metric: 1,
            info: 0,
            flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
            index: self.index()?,
        };
        self.tell("the IPv6 default route", socket, libc::SIOCADDRT, route).map(drop)
    }

    fn index(&self) -> Result<libc::c_int, NetworkError> {
        let request = self.request(0 as libc::c_int);
        self.tell("the index", &self.v4, libc::SIOCGIFINDEX, request).map(|answer| answer.value)
    }
}

const fn socket_address(address: Ipv4Addr) -> libc::sockaddr_in {
    let s_addr = u32::from_ne_bytes(address.octets());
    let sin_addr = libc::in_addr { s_addr };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr,
        sin_zero: [0; 8],
    }
}

/// The same bytes in the kernel's general shape.
fn generic(address: libc::sockaddr_in) -> libc::sockaddr {
    let mut data = [0; 14];
    let bytes = address.sin_port.to_ne_bytes().into_iter().chain(address.sin_addr.s_addr.to_ne_bytes());
    for (slot, byte) in data.iter_mut().zip(bytes) {
        *slot = byte as libc::c_char;
    }
    libc::sockaddr { sa_family: address.sin_family, sa_data: data }
}

fn parse_prefix(text: &str) -> Result<(IpAddr, u32), NetworkError> {
    let bad = || NetworkError::Address(text.to_owned());
    let (address, len) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let len_max = if address.is_ipv4() { 32 } else { 128 };
    let len = len.parse().ok().filter(|len| *len <= len_max).ok_or_else(bad)?;
    Ok((address, len))
}

fn parse_hardware_address(text: &str) -> Result<[u8; 6], NetworkError> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| NetworkError::Address(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_sends_is_checked() {
        assert_eq!(parse_prefix("172.16.0.2/16").unwrap(), ("172.16.0.2".parse().unwrap(), 16));
        assert_eq!(parse_prefix("fd00::2/64").unwrap().1, 64);
        assert_eq!(parse_hardware_address("02:00:00:00:00:ff").unwrap(), [2, 0, 0, 0, 0, 255]);
        for text in ["", "172.16.0.2", "172.16.0.2/33", "x/8", "fd00::2/129"] {
            assert!(parse_prefix(text).is_err(), "{text}");
        }
        for text in ["", "02:00", "02:00:00:00:00:zz", "02:00:00:00:00:00:00"] {
            assert!(parse_hardware_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_keeps_its_bytes_in_the_general_shape() {
        let shaped = generic(socket_address(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(shaped.sa_data[2..6], [10, 0, 0, 1]);
    }
}
