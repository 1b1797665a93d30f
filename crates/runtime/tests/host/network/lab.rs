//! The machine that a network test runs on: a thread in fresh network and mount namespaces. When the thread ends,
//! the kernel takes back everything the test made, also after a panic.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::{Allowance, PortMapping, WorkloadId};
use hypercore_runtime::network::{Attachment, AttachmentRequest, Network, NetworkConfig, OpenError};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// The host's address on its uplink, and that of the machine on the other side.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The bridge's addresses.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 1, 0, 0, 0x0a4d, 1);
pub(crate) const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The uplink's MTU: not the default, so that inheriting it shows.
pub(crate) const MTU: u32 = 1400;

/// How long something that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long something that must not happen is given.
pub(crate) const DOUBT: Duration = Duration::from_millis(250);

const BRIDGE: &str = "hctest0";

/// A test's machine. The thread that has it is on the host.
pub(crate) struct Lab {
    directory: PathBuf,
    outside: File,
}

/// Runs a test on a machine of its own, or says that it was skipped.
pub(crate) fn on_a_machine(name: &str, test: impl AsyncFnOnce(&Lab) + Send) {
    if skip_without_root(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let run = || {
        let lab = Lab::new(directory.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(&lab));
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

impl Lab {
    fn new(directory: &Path) -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let outside = within_new(own_namespace);
        ip("link set lo up");
        ip(&format!("link add uplink mtu {MTU} type veth peer name eth0"));
        // By thread: the namespace has no other name.
        let (sender, receiver) = std::sync::mpsc::channel();
        let outside_thread = outside.try_clone().unwrap();
        thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                setns(&outside_thread, CloneFlags::CLONE_NEWNET).unwrap();
                sender.send(nix::unistd::gettid()).unwrap();
                wait.recv().unwrap();
            });
            ip(&format!("link set eth0 netns {}", receiver.recv().unwrap()));
            done.send(()).unwrap();
        });
        ip(&format!("addr add {HOST}/24 dev uplink"));
        ip(&format!("addr add {HOST6}/64 dev uplink nodad"));
        ip("link set uplink up");
        ip(&format!("route add default via {OUTSIDE}"));
        within(&outside, || {
            ip("link set lo up");
            ip(&format!("addr add {OUTSIDE}/24 dev eth0"));
            ip(&format!("addr add {OUTSIDE6}/64 dev eth0 nodad"));
            ip("link set eth0 up");
        });
        Self { directory: directory.to_owned(), outside }
    }

    /// The configuration of this machine's node.
    pub(crate) fn config(&self) -> NetworkConfig {
        NetworkConfig {
            bridge: BRIDGE.parse().unwrap(),
            subnet: "10.77.0.0/24".parse().unwrap(),
            prefix: Some("fd12:3456:789a:1::/64".parse().unwrap()),
            netns_directory: self.directory.join("netns"),
        }
    }

    pub(crate) async fn open(&self, restored: Vec<Attachment>) -> Result<Network, OpenError> {
        Network::open(self.config(), restored).await
    }

    /// Runs something on the machine outside.
    pub(crate) fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.outside, work)
    }
}

/// Runs something inside a workload's namespace.
pub(crate) fn inside<T: Send>(attachment: &Attachment, work: impl FnOnce() -> T + Send) -> T {
    within(&File::open(&attachment.netns).unwrap(), work)
}

fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn within_new<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap()
}

fn own_namespace() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// Runs `ip` where the calling thread is.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Gives an interface one more address, to be used at once.
pub(crate) fn add_address(address: IpAddr, interface: &str) {
    let at_once = if address.is_ipv6() { " nodad" } else { "" };
    ip(&format!("addr add {address} dev {interface}{at_once}"));
}

/// Runs a program where the calling thread is; returns what it printed.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Everything the network makes on a machine, as text to compare.
pub(crate) fn everything(lab: &Lab) -> String {
    let links: serde_json::Value = serde_json::from_str(&run("ip", "-j link")).unwrap();
    let names: Vec<_> = links.as_array().unwrap().iter().map(|link| link["ifname"].to_string()).collect();
    let rules = run("nft", "list ruleset");
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mounts: Vec<_> =
        mounts.lines().filter(|line| line.contains(&*lab.directory.to_string_lossy())).collect();
    let files: Vec<_> = fs::read_dir(lab.directory.join("netns"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    let routes = run("ip", "route") + &run("ip", "-6 route");
    format!("{names:?}\n{routes}\n{rules}\n{mounts:?}\n{files:?}")
}

pub(crate) fn id(byte: u8) -> WorkloadId {
    WorkloadId::from_entropy([byte; 16])
}

pub(crate) fn port(text: &str) -> PortMapping {
    text.parse().unwrap()
}

/// What a workload asks for that has these ports and nothing else.
pub(crate) fn publish(ports: &[PortMapping]) -> AttachmentRequest {
    AttachmentRequest { ports: ports.to_vec(), ..AttachmentRequest::default() }
}

/// What a workload of this tenant asks for.
pub(crate) fn of_tenant(tenant: &str) -> AttachmentRequest {
    AttachmentRequest { tenant: tenant.parse().unwrap(), ..AttachmentRequest::default() }
}

/// What a workload asks for that was allowed to reach more.
pub(crate) fn allowed(allowance: Allowance) -> AttachmentRequest {
    AttachmentRequest { allow: [allowance].into(), ..of_tenant("allowed") }
}

/// A workload's addresses of both families.
pub(crate) fn addresses(attachment: &Attachment) -> [IpAddr; 2] {
    [attachment.address.into(), attachment.address6.unwrap().into()]
}

/// Connects to a listener by `address` from where the calling thread is.
pub(crate) fn connect(address: impl Into<IpAddr>, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), patience)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A listener on every address of where the calling thread is.
pub(crate) fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Accepts what `client` connected to, passes a word each way, and returns the client's address as the listener saw it.
pub(crate) fn talk(client: &mut TcpStream, listener: &TcpListener) -> (TcpStream, IpAddr) {
    let (mut server, peer) = wait_until(PATIENCE, || listener.accept().ok()).expect("the connection arrives");
    server.set_nonblocking(false).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(client, &mut server);
    (server, peer.ip().to_canonical())
}

/// Passes a word each way on an established connection.
pub(crate) fn exchange(one: &mut TcpStream, other: &mut TcpStream) {
    pass(one, other);
    pass(other, one);
}

fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").unwrap();
    let mut word = [0; 5];
    to.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"hello");
}

/// Asks a UDP server by `address` from where the calling thread is, and answers as that server.
pub(crate) fn ask(address: impl Into<IpAddr>, port: u16, server: &UdpSocket) -> io::Result<()> {
    let address = address.into();
    let any =
        if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let client = UdpSocket::bind((any, 0))?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.connect((address, port))?;
    client.send(b"ask")?;
    let mut word = [0; 16];
    let (_, peer) = server.recv_from(&mut word)?;
    server.send_to(b"answer", peer)?;
    let length = client.recv(&mut word)?;
    assert_eq!(&word[..length], b"answer");
    Ok(())
}
