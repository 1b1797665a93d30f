//! What the host itself needs before workloads can be attached: the bridge, forwarding, and links that an earlier run
//! left as they should be. It refuses to take any of that back: others may rely on forwarding by then.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{
    NetworkConfig, OpenError,
    attachment::Attachment,
    bridge,
    link::{self, Link, LinkError},
    namespace::{self, NamespaceError},
    netlink::Netlink,
    veth::Veth,
};

const SYSCTL: &str = "/proc/sys";
const FORWARDING: &str = "net/ipv4/ip_forward";
const FORWARDING6: &str = "net/ipv6/conf/all/forwarding";

/// Whether interfaces of this host get IPv6, as far as settings tell.
#[must_use]
pub fn has_ipv6() -> bool {
    let is_enabled =
        |which: &str| read(&format!("net/ipv6/conf/{which}/disable_ipv6")).is_ok_and(|value| value == "0");
    is_enabled("all") && is_enabled("default")
}

/// Makes the bridge and the settings, and the links of restored workloads what they should be. Call it only on a
/// thread of its own. Returns the MTU that links get.
pub(super) fn prepare(config: &NetworkConfig, restored: &[Attachment]) -> Result<u32, OpenError> {
    let mut netlink = Netlink::open().map_err(LinkError::Socket)?;
    let NetworkConfig { bridge, subnet, prefix, netns_directory } = config;
    let owner = netns_directory.display().to_string();
    let mtu = bridge::ensure(&mut netlink, bridge, *subnet, *prefix, &owner)?;
    enable_forwarding()?;
    match prefix {
        Some(_) => enable_forwarding6()?,
        None => namespace::set(&format!("net/ipv6/conf/{bridge}/disable_ipv6"), "1")?,
    }
    let links: BTreeMap<String, Link> =
        link::list(&mut netlink)?.into_iter().map(|link| (link.name.clone(), link)).collect();
    for attachment in restored {
        let veth = Veth::new(bridge, mtu, *subnet, *prefix, attachment);
        let Some(link) = links.get(veth.name()) else { continue };
        veth.configure_host(&mut netlink)?;
        if link.controller.is_some() {
            leave_bridge(&veth, attachment);
        }
    }
    Ok(mtu)
}

/// A workload that was attached when workloads were ports of the bridge: its own end still asks for neighbours.
/// One that can't be told loses its network, and nothing else.
fn leave_bridge(veth: &Veth, attachment: &Attachment) {
    let path = attachment.netns.clone();
    let told = std::thread::scope(|scope| {
        let tell = scope.spawn(move || -> Result<(), OpenError> {
            namespace::enter(&path)?;
            let mut inside = Netlink::open().map_err(LinkError::Socket)?;
            Ok(veth.configure_inside(&mut inside)?)
        });
        tell.join().unwrap_or(Err(NamespaceError::Panicked.into()))
    });
    if let Err(error) = told {
        tracing::warn!(id = %attachment.id, %error, "could not take a workload's link off the bridge");
    }
}

fn enable_forwarding() -> Result<(), NamespaceError> {
    if is_off(FORWARDING)? {
        tracing::info!("net.ipv4.ip_forward was 0 and is now 1, and stays so: workloads need it");
        namespace::set(FORWARDING, "1")?;
    }
    Ok(())
}

/// A host that forwards no longer listens to routers, unless it is told to (`accept_ra` 2): one that has its own
/// address from them must go on listening.
fn enable_forwarding6() -> Result<(), NamespaceError> {
    if !is_off(FORWARDING6)? {
        return Ok(());
    }
    let interfaces = Path::new(SYSCTL).join("net/ipv6/conf");
    let wrap = |source| NamespaceError::Setting { path: interfaces.clone(), source };
    for entry in fs::read_dir(&interfaces).map_err(wrap)? {
        let name = entry.map_err(wrap)?.file_name();
        let setting = format!("net/ipv6/conf/{}/accept_ra", name.to_string_lossy());
        let is_interface = name != "all" && name != "default";
        if is_interface && read(&setting).is_ok_and(|value| value == "1") {
            namespace::set(&setting, "2")?;
        }
    }
    tracing::info!("net.ipv6.conf.all.forwarding was 0 and is now 1, and stays so: workloads need it");
    namespace::set(FORWARDING6, "1")
}

fn is_off(setting: &str) -> Result<bool, NamespaceError> {
    let path = Path::new(SYSCTL).join(setting);
    read(setting).map(|value| value == "0").map_err(|source| NamespaceError::Setting { path, source })
}

fn read(setting: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new(SYSCTL).join(setting))?.trim().to_owned())
}
