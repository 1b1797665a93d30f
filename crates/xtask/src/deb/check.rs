//! What an operator does with the package: install, use, upgrade under load, remove, install again, purge.
//!
//! It refuses to look away: every connection that was refused, every line a workload didn't write and everything that
//! is left fails it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use hypercore_fixtures::{ImageBuilder, wait_until};
use serde_json::Value;

use super::machine::Machine;

/// Longest wait for what happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls the HTTP address without a pause until `/run/over` exists; counts what became of the calls. Each is a shell of
/// its own: a refused redirection ends it with 1, a connection that was cut with 2 or by a signal.
const CALLERS: &str = r#"
refused=0 answered=0 cut=0
while [ ! -e /run/over ]; do
    (
        exec 3<>/dev/tcp/127.0.0.1/8001
        printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3 || exit 2
        read -r _ <&3 || exit 2
    ) 2>/dev/null
    case $? in
        0) answered=$((answered + 1)) ;;
        1) refused=$((refused + 1)) ;;
        *) cut=$((cut + 1)) ;;
    esac
done
echo "$answered $cut $refused" > /run/counted
"#;

/// A workload that writes ever larger numbers.
const COUNTING: &str = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done";

/// Tries both packages, the second as an upgrade of the first.
///
/// # Errors
/// With what didn't go as it should.
pub(super) fn run(first: &Path, second: &Path) -> Result<()> {
    let machine = Machine::boot()?;
    for (package, name) in [(first, "first.deb"), (second, "second.deb")] {
        fs::copy(package, machine.path("root").join(name)).context("copying a package")?;
    }
    let image = ImageBuilder::busybox()?.build();
    image.write_archive(&machine.path("root/busybox.tar"), "busybox").context("writing the image")?;
    say("install", || install(&machine))?;
    say("upgrade, restart and kill under load", || upgrade(&machine))?;
    say("remove", || remove(&machine))?;
    say("install again", || install_again(&machine))?;
    say("purge", || purge(&machine))
}

fn say(step: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("  {step} ...");
    check().with_context(|| format!("at: {step}"))
}

fn install(machine: &Machine) -> Result<()> {
    machine.read(&["dpkg", "--install", "/root/first.deb"])?;
    // Active means that it said READY=1; enabled, that it will be there after a reboot.
    ensure!(machine.read(&["systemctl", "is-active", "hypercore"])?.trim() == "active", "it doesn't run");
    ensure!(machine.read(&["systemctl", "is-enabled", "hypercore"])?.trim() == "enabled", "it isn't enabled");
    machine.read(&["hypercore", "config", "check"])?;
    machine.read(&["hypercore", "image", "import", "/root/busybox.tar", "--as", "busybox"])?;
    machine.read(&["hypercore", "run", "-d", "--name", "counts", "busybox", "--", "sh", "-c", COUNTING])?;
    machine.read(&["hypercore", "exec", "counts", "true"]).map(drop)
}

fn upgrade(machine: &Machine) -> Result<()> {
    let pid = inspect(machine)?["pid"].clone();
    let mut callers = machine.command(&["bash", "-c", CALLERS]).spawn().context("starting the callers")?;
    let done = under_load(machine);
    machine.script("touch /run/over")?;
    callers.wait().context("waiting for the callers")?;
    done?;
    let counted = machine.script("cat /run/counted; rm /run/over /run/counted")?;
    println!("    connections answered, cut, refused: {}", counted.trim());
    let counted: Vec<u64> = counted.split_whitespace().filter_map(|count| count.parse().ok()).collect();
    ensure!(counted.len() == 3 && counted[0] > 100, "the callers got nowhere");
    ensure!(counted[2] == 0, "{} connections were refused", counted[2]);
    let now = inspect(machine)?;
    ensure!(now["pid"] == pid && now["status"] == "running", "the workload was restarted: {now}");
    let lines = machine.read(&["hypercore", "logs", "counts"])?;
    let is_whole = lines.lines().enumerate().all(|(index, line)| line == (index + 1).to_string());
    ensure!(is_whole && lines.lines().count() > 20, "the workload's output has a gap");
    Ok(())
}

/// Three kinds of restarts, and a command of every one.
fn under_load(machine: &Machine) -> Result<()> {
    for step in [
        "dpkg --install /root/second.deb",
        "systemctl restart hypercore",
        "kill -KILL $(systemctl show --value --property MainPID hypercore)",
        "dpkg --install /root/first.deb",
    ] {
        machine.script(step)?;
        let is_back = wait_until(PATIENCE, || machine.read(&["hypercore", "exec", "counts", "true"]).ok());
        is_back.with_context(|| format!("no control over the workload after: {step}"))?;
    }
    Ok(())
}

fn inspect(machine: &Machine) -> Result<Value> {
    let text = machine.read(&["hypercore", "inspect", "counts"])?;
    let list: Value = serde_json::from_str(&text).context("reading inspect")?;
    Ok(list[0].clone())
}

fn remove(machine: &Machine) -> Result<()> {
    machine.read(&["dpkg", "--remove", "hypercore"])?;
    nothing_runs(machine)?;
    ensure!(machine.path("var/lib/hypercore/node.redb").exists(), "the state is gone after a mere removal");
    ensure!(machine.path("etc/hypercore/hypercore.toml").exists(), "the configuration is gone");
    Ok(())
}

fn install_again(machine: &Machine) -> Result<()> {
    machine.read(&["dpkg", "--install", "/root/second.deb"])?;
    let status = inspect(machine)?["status"].clone();
    ensure!(status != "running", "a workload runs that was ended with the package");
    machine.read(&["hypercore", "run", "--rm", "busybox", "--", "true"])?;
    machine.read(&["hypercore", "run", "-d", "--name", "again", "busybox", "--", "sleep", "1000"]).map(drop)
}

fn purge(machine: &Machine) -> Result<()> {
    machine.read(&["dpkg", "--purge", "hypercore"])?;
    nothing_runs(machine)?;
    let left = machine.script("find / -xdev -name '*hypercore*' -not -path '/proc/*' -not -path '/var/log/*'; find /run -name '*hypercore*'")?;
    ensure!(left.trim().is_empty(), "files are left:\n{left}");
    let failed = machine.script("systemctl list-units --all --no-legend 'hypercore*'")?;
    ensure!(failed.trim().is_empty(), "systemd still knows: {failed}");
    Ok(())
}

/// Nothing of the node is in the kernel any more.
fn nothing_runs(machine: &Machine) -> Result<()> {
    let look = "ps -eo args= | grep '[h]ypercore' | grep -v 'bash -c'; ip -o link | grep hypercore; \
                nft list tables | grep hypercore; grep hypercore /proc/self/mountinfo; \
                find /sys/fs/cgroup -name '*hypercore0*'; true";
    let gone = wait_until(PATIENCE, || machine.script(look).ok().filter(|left| left.trim().is_empty()));
    gone.map(drop).with_context(|| format!("left behind:\n{}", machine.script(look).unwrap_or_default()))
}
