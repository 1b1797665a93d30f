//! Row "ingress": small responses through our ingress, nginx and haproxy, 64 connections, without and with TLS.
//!
//! ```text
//!   wrk, one thread, 64 connections --> proxy, one thread --> nginx, one worker: `return 200`, kept connections
//! ```
//!
//! All share the machine's cores, so requests per second alone would measure the load generator. What is compared is
//! requests per second of CPU time that the proxy itself used (user and system, from /proc), and the 99th percentile
//! of the same runs. It refuses to measure one proxy after another: they take turns.

mod load;
mod proxy;

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use self::{
    load::{Run, load},
    proxy::{Kind, Proxy},
};
use super::table::Line;
use crate::{interrupt, shell};

/// Runs of each proxy; each takes [`load::SECONDS`].
const ROUNDS: usize = 7;

/// Measures both lines.
///
/// # Errors
/// When a proxy doesn't come up, or the load generator sees errors.
pub(super) fn measure() -> Result<Vec<Line>> {
    shell::run(shell::cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "hypercore-dataplane",
        "--example",
        "ingress",
    ]))?;
    let directory =
        tempfile::Builder::new().prefix("hypercore-ingress-").tempdir().context("a scratch directory")?;
    make_certificate(directory.path())?;
    let mut lines = Vec::new();
    for tls in [false, true] {
        lines.extend(compare(directory.path(), tls)?);
    }
    Ok(lines)
}

fn compare(directory: &Path, tls: bool) -> Result<Vec<Line>> {
    let backend = Proxy::backend(directory)?;
    let kinds = [Kind::Ours, Kind::Nginx, Kind::Haproxy];
    let proxies = kinds.iter().map(|kind| Proxy::start(*kind, directory, backend.address(), tls));
    let proxies = proxies.collect::<Result<Vec<_>>>()?;
    let mut runs: [Vec<Run>; 3] = Default::default();
    for proxy in &proxies {
        // Connections to the backend, caches, and branch predictors are warm before anything counts.
        load(proxy, tls)?;
    }
    for _ in 0..ROUNDS {
        for (proxy, runs) in proxies.iter().zip(&mut runs) {
            interrupt::check()?;
            runs.push(load(proxy, tls)?);
        }
    }
    let [ours, nginx, haproxy] = runs.map(|runs| Run::median(&runs));
    let what = if tls { "ingress, TLS" } else { "ingress, no TLS" };
    let line = |peer: (&str, Run)| {
        [
            Line::amounts(
                &format!("{what}: requests per second of a core"),
                "/s",
                ours.per_core,
                Some((peer.0, peer.1.per_core)),
                ">= 1.0x",
            ),
            Line::amounts(
                &format!("{what}: p99"),
                "ms",
                ours.p99_ms,
                Some((peer.0, peer.1.p99_ms)),
                "<= 1.2x",
            ),
        ]
    };
    Ok([line(("nginx", nginx)), line(("haproxy", haproxy))].into_iter().flatten().collect())
}

/// haproxy wants both in one file.
fn make_certificate(directory: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args(["-subj", "/CN=web.bench", "-addext", "subjectAltName=DNS:web.bench"]);
    command.arg("-keyout").arg(directory.join("tls.key")).arg("-out").arg(directory.join("tls.crt"));
    shell::read(&mut command)?;
    let both = ["tls.crt", "tls.key"].map(|name| std::fs::read_to_string(directory.join(name)));
    let [certificate, key] = both;
    std::fs::write(directory.join("tls.pem"), certificate? + &key?).context("writing tls.pem")
}
