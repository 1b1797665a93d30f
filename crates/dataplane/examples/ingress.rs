//! The ingress alone, on one thread: what `cargo xtask bench ingress` measures beside other proxies.
//!
//! `ingress LISTEN-ADDRESS BACKEND-ADDRESS [CERTIFICATE KEY]` routes `web.bench` to the backend until it is killed.

use std::{error::Error, net::SocketAddr};

use hypercore_dataplane::{
    Backend, Entrance, Ingress, IngressConfig, Route, RouteState, Routes, TcpConnector,
    tls::{Certificates, files::CertificateFiles},
};
use hypercore_model::WorkloadId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, backend, files @ ..] = arguments.as_slice() else {
        return Err("usage: ingress LISTEN-ADDRESS BACKEND-ADDRESS [CERTIFICATE KEY]".into());
    };
    let (listen, backend): (SocketAddr, SocketAddr) = (listen.parse()?, backend.parse()?);
    let mut config = IngressConfig::new("bench".parse()?);
    config.access_log = false;
    let routes = Routes::new();
    routes.insert(Route {
        workload: WorkloadId::from_entropy([0; 16]),
        name: Some("web".parse()?),
        state: RouteState::Live(vec![Backend { address: backend }]),
    });
    let certificates = match files {
        [certificates, key] => {
            let files = CertificateFiles { certificates: certificates.into(), key: key.into() };
            let shown = Certificates::new();
            shown.set_default(files.load()?);
            Some(shown)
        }
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        let entrance = match certificates {
            Some(certificates) => Entrance::tls(listener, certificates),
            None => Entrance::plain(listener),
        };
        Ok(Ingress::new(config, routes, TcpConnector).serve(entrance, CancellationToken::new()).await?)
    })
}
