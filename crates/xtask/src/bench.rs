//! `cargo xtask bench`: the numbers of SPECIFICATION.md, ours beside the peer's, measured in the same run.
//!
//! ```text
//!   world: a release-built node + a private containerd, the same image in both
//!     row: ours, peer, ours, peer, ... --> samples --> table: ours | peer | ratio | target
//! ```
//!
//! It refuses to judge: a benchmark prints numbers, whatever they are, and fails only when it couldn't measure.
//!
//! Reading order: [`world`], [`samples`], [`table`], then one file per row.

mod bare;
mod containerd;
mod create;
mod crowd;
mod cycles;
mod exec;
mod idle;
mod ingress;
mod machine;
mod memory;
mod procfs;
mod restart;
mod samples;
mod table;
mod world;

use anyhow::{Context, Result, bail};

use crate::{guest, install, interrupt, kernel, shell};
use table::Line;
use world::World;

/// What measures one row of the specification; a row may print several lines.
#[derive(Debug, Clone, Copy)]
enum Row {
    /// Beside containerd, on a node of its own.
    Node(fn(&mut World) -> Result<Vec<Line>>),
    /// With programs that it starts itself.
    Alone(fn() -> Result<Vec<Line>>),
}

const ROWS: [(&str, Row); 13] = [
    ("container create", Row::Node(create::measure)),
    ("bare container", Row::Node(bare::measure)),
    ("exec", Row::Node(exec::measure)),
    ("per-container memory", Row::Node(memory::measure)),
    ("agent idle", Row::Node(idle::measure)),
    ("agent restart", Row::Node(restart::measure)),
    ("cycles", Row::Node(cycles::measure)),
    ("microvm boot", Row::Node(machine::boot)),
    ("microvm resume", Row::Node(machine::resume)),
    ("microvm exec", Row::Node(machine::exec)),
    ("microvm memory", Row::Node(machine::memory)),
    ("microvm crowd", Row::Node(machine::crowd)),
    ("ingress", Row::Alone(ingress::measure)),
];

/// Measures the rows with these names, or all.
///
/// # Errors
/// When a name is unknown, something is missing, or a program doesn't do what is to be measured.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let rows = select(names)?;
    if !hypercore_fixtures::is_root() {
        bail!("containers need root; type this:\n\n    sudo -E env \"PATH=$PATH\" cargo xtask bench\n");
    }
    interrupt::watch()?;
    install::packages(&install::BENCH_PACKAGES)?;
    let mut lines = Vec::new();
    let result = measure(&rows, &mut lines);
    // What was measured before something failed is worth seeing too.
    table::print(&lines);
    result
}

fn measure(rows: &[(&str, Row)], lines: &mut Vec<Line>) -> Result<()> {
    let mut world = None;
    for (name, row) in rows {
        interrupt::check()?;
        eprintln!("measuring: {name}");
        let measured = match row {
            Row::Alone(measure) => measure(),
            Row::Node(measure) => match &mut world {
                Some(world) => measure(world),
                none => measure(none.insert(open_world()?)),
            },
        };
        lines.extend(measured.with_context(|| format!("measuring {name}"))?);
    }
    Ok(())
}

/// Only rows that need a node pay for its build.
fn open_world() -> Result<World> {
    shell::run(shell::cargo().args(["build", "--workspace", "--bins", "--locked", "--release"]))?;
    guest::build("release")?;
    kernel::fetch();
    World::open()
}

fn select(names: &[String]) -> Result<Vec<(&'static str, Row)>> {
    if names.is_empty() {
        return Ok(ROWS.to_vec());
    }
    let find =
        |name: &String| ROWS.iter().copied().find(|(row, _)| row == name || row.replace(' ', "-") == *name);
    let known: Vec<&str> = ROWS.iter().map(|(row, _)| *row).collect();
    names.iter().map(|name| find(name).ok_or_else(|| unknown(name, &known))).collect()
}

fn unknown(name: &str, known: &[&str]) -> anyhow::Error {
    anyhow::anyhow!("there is no row {name:?}; there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_with_spaces_or_dashes() {
        let chosen = select(&["agent-idle".to_owned(), "exec".to_owned()]).unwrap();
        assert_eq!(chosen.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["agent idle", "exec"]);
        assert_eq!(select(&[]).unwrap().len(), ROWS.len());
        assert!(select(&["nothing".to_owned()]).is_err_and(|error| error.to_string().contains("agent idle")));
    }
}
