//! `cargo xtask demo`: the whole life of one container, each step shown as a user would type it.
//!
//! ```text
//!   install, build -> registry <- image        kill -9 agent -> still serving -> up again -> still in control
//!        node up   -> pull, run, curl, exec, logs                     stop, rm, node down -> nothing left
//! ```
//!
//! It refuses to pretend: every claim is checked against what a program answered, the first that doesn't hold
//! ends the demo with an error, and what was started is taken down on every way out.

mod beside;
mod stage;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hypercore_fixtures::{Leftovers, Registry, guest_kernel, wait_until};

use crate::node::{self, Node};
use crate::sample::{self, Page};
use crate::{guest, install, interrupt, kernel, shell};
use stage::Stage;

const BRIDGE: &str = "hcdemo0";
const CIDR: &str = "10.213.0.0/24";
const IMAGE: &str = "demo/web:1";
/// The server writes a line to its log every so many ticks.
const TICKS_PER_LINE: u64 = 10;
/// Longest wait for something that should be seen within a second.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs the demo.
///
/// # Errors
/// When anything that it shows wasn't seen to work.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let keep = match arguments {
        [] => false,
        [flag] if flag == "--keep" => true,
        _ => bail!("usage: cargo xtask demo [--keep]"),
    };
    if !hypercore_fixtures::is_root() {
        bail!("containers need root; type this:\n\n    sudo -E env \"PATH=$PATH\" cargo xtask demo\n");
    }
    interrupt::watch()?;
    let stage = Stage::open();
    stage.say("Install what is missing, and build");
    install::packages(&install::DEMO_PACKAGES)?;
    shell::run(shell::cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    guest::build("debug")?;
    kernel::fetch();
    let before = Leftovers::naming(&[BRIDGE]);

    let mut show = Show::open(stage)?;
    let directory = show.node.directory().to_string_lossy().into_owned();
    show.all()?;
    if keep {
        return show.leave_running();
    }
    let Show { stage, node, registry } = show;
    stage.say("End the node");
    drop((node, registry));
    stage.check(!PathBuf::from(&directory).exists(), "the scratch directory is gone")?;
    let left = before.wait_for_none_new(PATIENCE);
    left.iter().for_each(|one| eprintln!("  left behind: {one}"));
    stage
        .check(left.is_empty(), "no process, mount, network namespace, link, nft table or cgroup is left")?;
    println!("\nAll of this was seen to work.");
    Ok(())
}

/// What the demo is played with.
struct Show {
    stage: Stage,
    node: Node,
    registry: Registry,
}

/// The container that the demo is about.
struct Web {
    id: String,
    address: String,
}

impl Show {
    fn open(stage: Stage) -> Result<Self> {
        stage.say("A registry on loopback, and a small image made from busybox-static");
        let registry = Registry::start()?;
        stage.typed("docker-registry serve config.yml &");
        let image = sample::counting_server()?;
        let reference = registry.push(&image, IMAGE)?;
        stage.seen(&format!("pushed {reference}, {}", image.digest()));
        let node = Node::prepare(shell::workspace().join("target/debug"), BRIDGE, CIDR)?;
        Ok(Self { stage, node, registry })
    }

    fn all(&mut self) -> Result<()> {
        self.bring_up()?;
        let web = self.run_web()?;
        self.look_inside(&web)?;
        self.boot_beside()?;
        self.lose_the_agent(&web)?;
        self.end(&web)
    }

    fn hypercore(&self, arguments: &[&str]) -> Result<String> {
        self.stage.show(&mut self.node.command(arguments))
    }

    fn bring_up(&mut self) -> Result<()> {
        self.stage.say("Start this machine's node, in a scratch directory");
        self.stage.typed(&format!("export PATH={}:$PATH", self.node.programs().display()));
        self.stage.typed(&format!("export HYPERCORE_API={}", self.node.api()));
        if let Some(kernel) = guest_kernel() {
            self.stage.typed(&format!("export HYPERCORE_RUNTIME_KERNEL={}", kernel.display()));
        }
        self.stage.typed(&format!("{} &", shell::typed(&self.node.up())));
        let took = self.node.start()?;
        self.stage.seen(&format!("the agent answers after {} ms", took.as_millis()));
        Ok(())
    }

    fn run_web(&mut self) -> Result<Web> {
        let reference = self.registry.reference(IMAGE);
        self.stage.say("Pull the image back and run it, with a port published");
        self.hypercore(&["image", "pull", &reference])?;
        self.hypercore(&["image", "ls"])?;
        let address = node::free_address()?;
        let publish = format!("{}:{}", address.port(), sample::PORT);
        let id =
            self.hypercore(&["run", "-d", "--name", "web", "-p", &publish, &reference])?.trim().to_owned();
        let table = self.hypercore(&["ps"])?;
        let running = table.lines().any(|line| line.contains("web") && line.contains("running"));
        self.stage.check(running, "ps shows web as running")?;
        let web = Web { id, address: address.to_string() };
        let page = self.page_after(None, &web)?;
        self.stage.seen(&format!("the published port answers from inside the container: run {}", page.run));
        Ok(web)
    }

    fn look_inside(&mut self, web: &Web) -> Result<()> {
        self.stage.say("Execute a command inside it, and follow its logs");
        let inside = self.hypercore(&["exec", "web", "--", "sh", "-c", "hostname; ps | grep [s]erve"])?;
        self.stage.check(inside.contains("/bin/serve"), "exec sees the container's own processes")?;
        let mut logs = self.stage.follow(&mut self.node.command(&["logs", "-f", "web"]))?;
        let first = self.page_after(None, web)?;
        let ticks = || logs.lines().iter().filter(|line| line.starts_with("tick ")).count();
        let grew = wait_until(PATIENCE, || (ticks() >= 2).then_some(()));
        self.stage.check(grew.is_some() && !logs.ended(), "the log is followed as it grows")?;
        self.still_counts(&first, web, "the counter goes up").map(drop)
    }

    fn lose_the_agent(&mut self, web: &Web) -> Result<()> {
        self.stage.say("Kill the agent the hard way: the container must not notice");
        let before = self.page_after(None, web)?;
        self.stage.typed(&format!("kill -9 {}", self.node.agent_pid()?));
        self.node.kill_agent()?;
        // Far enough for it to write a line to its log, which only the shim can have taken.
        let a_line_later = Page { tick: before.tick + TICKS_PER_LINE, ..before };
        let claim = "without an agent the same process still counts and serves";
        let without = self.still_counts(&a_line_later, web, claim)?;

        self.stage.say("Start the agent again: it finds the container and is in control");
        self.stage.typed(&format!("{} &", shell::typed(&self.node.up())));
        let took = self.node.start()?;
        self.stage.seen(&format!("the agent answers after {} ms", took.as_millis()));
        let table = self.hypercore(&["ps"])?;
        let short = web.id.get(..8).unwrap_or(&web.id);
        let same = table.lines().any(|line| line.contains(short) && line.contains("running"));
        self.stage.check(same, "ps shows the same container as running")?;
        self.still_counts(&without, web, "it is still the same process")?;
        let said = self.hypercore(&["exec", "web", "--", "echo", "still under control"])?;
        self.stage.check(said.trim() == "still under control", "exec works")?;
        let all = shell::read(&mut self.node.command(&["logs", "web"]))?;
        self.stage
            .check(ticks_are_complete(&all), "the log has every line, also those written without an agent")
    }

    fn end(&mut self, web: &Web) -> Result<()> {
        self.stage.say("Stop it and remove it");
        self.hypercore(&["stop", "web"])?;
        let table = self.hypercore(&["ps", "-a"])?;
        let stopped = table.lines().any(|line| line.contains("web") && line.contains("stopped"));
        self.stage.check(stopped, "ps -a shows it as stopped")?;
        let refused = std::net::TcpStream::connect(&web.address).is_err();
        self.stage.check(refused, "the published port is closed")?;
        let last = shell::read(
            self.node.command(&["logs", "--tail", "1", "web"]).stderr(std::process::Stdio::null()),
        )?;
        self.stage.check(last.contains("stopping after"), "it was asked to stop and said so in its log")?;
        self.hypercore(&["rm", "web"])?;
        let left = self.hypercore(&["ps", "-a", "-q"])?;
        self.stage.check(left.trim().is_empty(), "nothing is listed any more")
    }

    /// What the published port serves, once it serves what comes after `before`. The server inside is given a moment
    /// to listen and to count; another process than the one of `before` is never what comes after it.
    fn page_after(&self, before: Option<&Page>, web: &Web) -> Result<Page> {
        let url = format!("http://{}/", web.address);
        let curl = || {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--fail", &url]);
            command
        };
        let later = |page: Page| before.is_none_or(|before| before.goes_on_in(&page)).then_some(());
        wait_until(PATIENCE, || {
            shell::read(&mut curl()).ok().and_then(|text| Page::parse(&text)).and_then(later)
        });
        let text = self.stage.show(&mut curl())?;
        Page::parse(&text).with_context(|| format!("this is not the page the container serves: {text:?}"))
    }

    /// Asks the published port again and checks that the process of `before` answers, further on.
    fn still_counts(&self, before: &Page, web: &Web, what: &str) -> Result<Page> {
        let page = self.page_after(Some(before), web)?;
        self.stage.check(before.goes_on_in(&page), what)?;
        Ok(page)
    }

    fn leave_running(self) -> Result<()> {
        let Self { stage, node, registry } = self;
        let (api, programs) = (node.api(), node.programs().display().to_string());
        let (pid, reference) = (node.agent_pid()?, registry.reference(IMAGE));
        let directory = node.keep();
        stage.say("The node is left running. To use it:");
        stage.typed(&format!("export PATH={programs}:$PATH HYPERCORE_API={api}"));
        stage.typed(&format!("hypercore run -d --name web -p 8080:{} {reference}", sample::PORT));
        stage.say("To end it:");
        stage.typed(&format!("hypercore rm --force web; kill {pid}; sleep 1; rm -r {}", directory.display()));
        Ok(())
    }
}

/// Whether `tick 10`, `tick 20`, ... are all there, in order.
fn ticks_are_complete(log: &str) -> bool {
    let ticks = log.lines().filter_map(|line| line.strip_prefix("tick "));
    let mut count = 0;
    let in_order = ticks.enumerate().all(|(index, tick)| {
        count += 1;
        tick.parse() == Ok((index as u64 + 1) * TICKS_PER_LINE)
    });
    in_order && count > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tick_is_noticed() {
        assert!(ticks_are_complete("serving\ntick 10\ntick 20\nstopping"));
        assert!(!ticks_are_complete("tick 10\ntick 30\n"));
        assert!(!ticks_are_complete("tick 20\n"));
        assert!(!ticks_are_complete("serving\n"));
    }
}
