//! The proxies that are compared, and the backend behind them: one thread each, no access log, kept connections.
//!
//! It refuses to leave one behind: dropping it ends it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hypercore_fixtures::wait_until;

use crate::bench::procfs;
use crate::shell;

const PATIENCE: Duration = Duration::from_secs(10);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    Nginx,
    Haproxy,
}

/// A running proxy, or the backend.
#[derive(Debug)]
pub(super) struct Proxy {
    process: Child,
    address: SocketAddr,
}

impl Proxy {
    /// nginx that answers everything with a few bytes.
    pub(super) fn backend(directory: &Path) -> Result<Self> {
        let address = free_address()?;
        let server = format!(
            "server {{ listen {address}; keepalive_requests 1000000000; location / {{ return 200 'hello'; }} }}"
        );
        nginx(directory, "backend", address, &server)
    }

    /// A proxy to the backend at that address.
    pub(super) fn start(kind: Kind, directory: &Path, backend: SocketAddr, tls: bool) -> Result<Self> {
        let address = free_address()?;
        match kind {
            Kind::Ours => ours(directory, address, backend, tls),
            Kind::Nginx => nginx(directory, "proxy", address, &nginx_proxy(directory, address, backend, tls)),
            Kind::Haproxy => haproxy(directory, address, backend, tls),
        }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time that it has used.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        procfs::cpu_time(self.process.id())
    }

    fn spawn(mut command: Command, address: SocketAddr) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().with_context(|| shell::typed(&command))?;
        let mut proxy = Self { process, address };
        let answers = || TcpStream::connect(address).is_ok().then_some(());
        if wait_until(PATIENCE, answers).is_none() || !matches!(proxy.process.try_wait(), Ok(None)) {
            bail!("{} did not come up on {address}", shell::typed(&command));
        }
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ours(directory: &Path, address: SocketAddr, backend: SocketAddr, tls: bool) -> Result<Proxy> {
    let mut command = Command::new(shell::workspace().join("target/release/examples/ingress"));
    command.arg(address.to_string()).arg(backend.to_string());
    if tls {
        command.arg(directory.join("tls.crt")).arg(directory.join("tls.key"));
    }
    Proxy::spawn(command, address)
}

/// One process in all: without a master there is nothing else that could use CPU time.
fn nginx(directory: &Path, name: &str, address: SocketAddr, server: &str) -> Result<Proxy> {
    let at = directory.display();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/{name}.pid; error_log {at}/{name}.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {at}/{name}-b; proxy_temp_path {at}/{name}-p;\n\
         fastcgi_temp_path {at}/{name}-f; uwsgi_temp_path {at}/{name}-u; scgi_temp_path {at}/{name}-s;\n\
         {server} }}\n"
    );
    let path = directory.join(format!("{name}.conf"));
    std::fs::write(&path, config).context("writing nginx's configuration")?;
    let mut command = Command::new("nginx");
    command
        .arg("-c")
        .arg(&path)
        .arg("-p")
        .arg(directory)
        .arg("-e")
        .arg(directory.join(format!("{name}.log")));
    Proxy::spawn(command, address)
}

/// The headers are those that our ingress sets too.
fn nginx_proxy(directory: &Path, address: SocketAddr, backend: SocketAddr, tls: bool) -> String {
    let at = directory.display();
    let (flag, files) = if tls {
        (" ssl http2", format!("ssl_certificate {at}/tls.crt; ssl_certificate_key {at}/tls.key;"))
    } else {
        ("", String::new())
    };
    format!(
        "upstream web {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen {address}{flag}; server_name web.bench; {files} keepalive_requests 1000000000;\n\
         location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection '';\n\
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;\n\
         proxy_set_header Forwarded \"for=$remote_addr;proto=$scheme\";\n\
         proxy_set_header X-Request-Id $request_id; }} }}"
    )
}

fn haproxy(directory: &Path, address: SocketAddr, backend: SocketAddr, tls: bool) -> Result<Proxy> {
    let bind = if tls {
        format!("bind {address} ssl crt {}/tls.pem alpn h2,http/1.1", directory.display())
    } else {
        format!("bind {address}")
    };
    let config = format!(
        "global\n nbthread 1\n maxconn 4096\n\
         defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n http-reuse always\n\
         frontend front\n {bind}\n use_backend web if {{ hdr(host) -i web.bench }}\n\
         backend web\n option forwardfor\n http-request set-header X-Forwarded-Proto http\n\
         \x20http-request set-header X-Forwarded-Host %[hdr(host)]\n\
         \x20http-request set-header Forwarded for=%[src]\n\
         \x20http-request set-header X-Request-Id %[uuid()]\n server one {backend}\n"
    );
    let path = directory.join("haproxy.conf");
    std::fs::write(&path, config).context("writing haproxy's configuration")?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&path);
    Proxy::spawn(command, address)
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    listener.local_addr().context("looking for a free port")
}
