//! Brings in what a fresh Debian machine lacks: packages by apt, cargo's tools by version.
//!
//! It refuses to touch what is there: a package or tool that is present, in whatever version, is used.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// Debian packages that the tests need.
pub(crate) const TEST_PACKAGES: [&str; 6] =
    ["busybox-static", "docker-registry", "e2fsprogs", "iproute2", "nftables", "qemu-system-x86"];
/// Debian packages that the demo needs.
pub(crate) const DEMO_PACKAGES: [&str; 6] =
    ["busybox-static", "curl", "docker-registry", "e2fsprogs", "nftables", "qemu-system-x86"];
/// Debian packages that the benchmarks need: the peers are containerd, runc, haproxy and nginx.
pub(crate) const BENCH_PACKAGES: [&str; 11] = [
    "busybox-static",
    "containerd",
    "docker-registry",
    "e2fsprogs",
    "haproxy",
    "nftables",
    "nginx-light",
    "openssl",
    "qemu-system-x86",
    "runc",
    "wrk",
];

/// Debian packages that trying the Debian package needs.
pub(crate) const DEB_PACKAGES: [&str; 3] = ["busybox-static", "debootstrap", "util-linux"];

/// A program that cargo can build for us.
pub(crate) struct CargoTool {
    name: &'static str,
    version: &'static str,
    features: &'static [&'static str],
}

/// Runs the tests. Its self-update would bring in a TLS stack and a dialog library.
pub(crate) const NEXTEST: CargoTool = CargoTool {
    name: "cargo-nextest",
    version: "0.9.143",
    features: &["--no-default-features", "--features", "default-no-update"],
};
/// Packs Debian packages.
pub(crate) const DEB: CargoTool = CargoTool { name: "cargo-deb", version: "3.8.0", features: &[] };
/// Checks licences, sources and duplicates.
pub(crate) const DENY: CargoTool = CargoTool { name: "cargo-deny", version: "0.20.2", features: &[] };

/// The vsock of QEMU's machines in tests: some 80 s to build, 4 MiB, no library of the host's.
const VSOCK_DEVICE: CargoTool = CargoTool { name: "vhost-device-vsock", version: "0.3.0", features: &[] };

/// Installs those of `wanted` that are missing.
///
/// # Errors
/// When something is missing and we aren't root (the error is the line to type), or when apt fails.
pub(crate) fn packages(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !shell::succeeds(Command::new("apt-get").arg("--version")) {
        bail!("this is no Debian machine: install what Debian calls {list}, then try again");
    }
    if !hypercore_fixtures::is_root() {
        bail!(
            "some Debian packages are missing; type this and try again:\n\n    sudo apt-get install -y {list}\n"
        );
    }
    let install = || apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing).status();
    println!("$ apt-get install --yes --no-install-recommends {list}");
    // The package lists of a fresh machine are empty or old: only then is the update needed.
    if install().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    shell::run(apt().arg("update"))?;
    shell::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
}

/// Builds and installs `tool` unless there is one.
///
/// # Errors
/// When cargo can't build it.
pub(crate) fn cargo_tool(tool: &CargoTool) -> Result<()> {
    if shell::succeeds(Command::new(tool.name).arg("--version")) {
        return Ok(());
    }
    build(tool, &[])
}

/// Builds the vsock device into `target/tools` unless it is there. A machine that can't do without it: the test that
/// needs it says that it was skipped.
pub(crate) fn vsock_device() {
    if hypercore_fixtures::vsock_device().is_some() {
        return;
    }
    let root = shell::workspace().join("target/tools");
    if let Err(error) = build(&VSOCK_DEVICE, &["--root", &root.to_string_lossy()]) {
        println!("there is no vsock device: {error:#}");
    }
}

fn build(tool: &CargoTool, place: &[&str]) -> Result<()> {
    println!("{} is missing; building {} takes some minutes", tool.name, tool.version);
    let mut command = shell::cargo();
    command.args(["install", "--locked", "--version", tool.version]).args(place).args(tool.features);
    command.arg(tool.name);
    // A tool that runs for seconds needn't be optimised for minutes.
    command.envs([
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ]);
    shell::run(&mut command)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(package: &str) -> bool {
    let query =
        shell::read(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]));
    query.is_ok_and(|status| status == "installed")
}
