//! The demo's container again, as a microVM beside it: kept as a snapshot, forked, and restored after its end.
//! It refuses to pretend: without a kernel to boot it says so.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, Result};
use hypercore_fixtures::guest_kernel;

use super::{IMAGE, Show, Web};
use crate::{
    node,
    sample::{self, Page},
};

impl Show {
    pub(super) fn boot_beside(&self) -> Result<()> {
        self.stage.say("The same image as a microVM: the same commands, behind a kernel of its own");
        if guest_kernel().is_none() {
            self.stage
                .typed("hypercore run --isolation microvm: not shown, this machine has no kernel for it");
            return Ok(());
        }
        let reference = self.registry.reference(IMAGE);
        let address = node::free_address()?.to_string();
        let port = address.rsplit(':').next().unwrap_or_default();
        let publish = format!("{port}:{}", sample::PORT);
        let flags = ["run", "-d", "--name", "vm", "--isolation", "microvm", "-p", &publish, &reference];
        let id = self.hypercore(&flags)?.trim().to_owned();
        let table = self.hypercore(&["ps"])?;
        let running = table.lines().filter(|line| line.contains("running")).count();
        self.stage.check(running == 2, "container and microVM run side by side")?;
        let vm = Web { id, address };
        let page = self.page_after(None, &vm)?;
        self.stage.seen(&format!("its published port answers: run {}", page.run));
        let of_container = self.hypercore(&["exec", "web", "--", "uname", "-r"])?;
        let of_machine = self.hypercore(&["exec", "vm", "--", "uname", "-r"])?;
        self.stage
            .check(of_container != of_machine, "exec works in both, and each tells of another kernel")?;
        let moment = self.fork(&vm)?;
        self.hypercore(&["stop", "vm"])?;
        self.hypercore(&["rm", "vm"])?;
        self.restore(&moment)
    }

    /// Keeps the machine as it is, makes clones of it, and answers what it served before.
    fn fork(&self, vm: &Web) -> Result<Page> {
        self.stage.say("Keep the microVM as it is, and fork it: the clones go on from where it was");
        let before = self.page_after(None, vm)?;
        self.hypercore(&["snapshot", "vm", "moment"])?;
        self.hypercore(&["fork", "vm", "-n", "2"])?;
        self.hypercore(&["ps"])?;
        for name in ["vm-1", "vm-2"] {
            let clone = self.published(name)?;
            let claim = format!("{name} serves on as the same process, at a port of its own");
            self.still_counts(&before, &clone, &claim)?;
        }
        let inside = ["vm", "vm-1", "vm-2"].map(|name| self.hypercore(&["exec", name, "hostname"]));
        let [of_vm, of_first, of_second] = inside;
        let names = BTreeSet::from([of_vm?, of_first?, of_second?]);
        self.stage.check(names.len() == 3, "each clone has a name of its own")?;
        self.still_counts(&before, vm, "the one they were made of did not notice")?;
        self.hypercore(&["rm", "--force", "vm-1", "vm-2"])?;
        Ok(before)
    }

    /// Goes on from the snapshot when the machine that it was made of is gone.
    fn restore(&self, moment: &Page) -> Result<()> {
        self.stage.say("The microVM is gone, and its snapshot is not");
        self.hypercore(&["snapshots", "ls"])?;
        let start = Instant::now();
        self.hypercore(&["restore", "moment", "--name", "again"])?;
        self.stage.seen(&format!("it goes on {} ms later", start.elapsed().as_millis()));
        let again = self.published("again")?;
        self.still_counts(moment, &again, "it is the same process, and its count goes on")?;
        self.hypercore(&["rm", "--force", "again"])?;
        self.hypercore(&["snapshots", "rm", "moment"])?;
        Ok(())
    }

    /// A workload, by where its port is published.
    fn published(&self, name: &str) -> Result<Web> {
        let address = self.hypercore(&["port", name, &sample::PORT.to_string()])?;
        let port = address.lines().next().and_then(|line| line.rsplit(':').next());
        let port = port.with_context(|| format!("{name} has no port: {address:?}"))?.trim().to_owned();
        Ok(Web { id: name.to_owned(), address: format!("127.0.0.1:{port}") })
    }
}
