//! The demo's container again, as a microVM beside it. It refuses to pretend: without a kernel to boot it says so.

use anyhow::Result;
use hypercore_fixtures::guest_kernel;

use super::{IMAGE, Show, Web};
use crate::{node, sample};

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
        self.hypercore(&["stop", "vm"])?;
        self.hypercore(&["rm", "vm"])?;
        Ok(())
    }
}
