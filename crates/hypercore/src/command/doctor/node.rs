//! The checks of what belongs to the node itself: configuration, programs, data directory, agent.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::Path,
};

use hypercore_api::v1;
use hypercore_model::units::format_size;
use nix::sys::statvfs::statvfs;

use super::{Finding, fix::Fix};
use crate::{cli::GlobalArgs, console::Console, context::Context};

/// Below this much free space the data directory is worth a warning: one image of a usual size no longer fits.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// The programs that must be beside ours.
const PROGRAMS: [&str; 2] = ["hypercore-shim", "hypercore-engine"];

/// Loads the configuration; with the defaults instead of a broken one the other checks still work.
pub(super) fn config(global: &GlobalArgs, console: Console) -> (Context, Finding) {
    match Context::load(global, console.clone()) {
        Ok(context) => {
            let message = match context.config_path() {
                Some(path) => format!("{} has no mistakes", path.display()),
                None => "there is no file; the defaults are in effect".to_owned(),
            };
            let finding = Finding::ok("config", message);
            (context, finding)
        }
        Err(failure) => {
            let message = one_line(&failure.error.message);
            let finding = Finding::fail("config", message, "`hypercore config check` lists every mistake");
            (Context::without_file(global, console), finding)
        }
    }
}

/// What fits on one line of a message: one mistake in full, of several only how many they are.
fn one_line(message: &str) -> String {
    match message.split_once(":\n") {
        Some((head, mistakes)) if mistakes.contains('\n') => head.to_owned(),
        _ => message.replace("\n ", ""),
    }
}

/// The shim and its engine.
pub(super) fn programs() -> Vec<Finding> {
    let check = |name: &'static str| match hypercore_agent::find_program(name) {
        Ok(path) => Finding::ok(name, path.display().to_string()),
        Err(path) => {
            let message = format!("{} is not there", path.display());
            Finding::fail(name, message, format!("install {name} beside the hypercore program"))
        }
    };
    PROGRAMS.map(check).into()
}

/// Whether the data directory is ours alone, and has room.
pub(super) fn data_directory(path: &Path) -> Finding {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::ok("data directory", format!("{shown} will be made by `hypercore up`"));
        }
        Err(error) => {
            return Finding::fail(
                "data directory",
                format!("{shown}: {error}"),
                "give another one with --data-dir",
            );
        }
    };
    if !metadata.is_dir() {
        return Finding::fail(
            "data directory",
            format!("{shown} is not a directory"),
            "move it out of the way",
        );
    }
    if metadata.uid() != 0 || metadata.mode() & 0o077 != 0 {
        let message =
            format!("{shown} has mode {:o} and belongs to user {}", metadata.mode() & 0o777, metadata.uid());
        let hint = format!("`chown root {shown}; chmod 700 {shown}`");
        return Finding::fail("data directory", message, hint).fixed_by(Fix::Close(path.to_owned()));
    }
    room(path)
}

fn room(path: &Path) -> Finding {
    let shown = path.display();
    match statvfs(path) {
        Ok(stat) => {
            let free_bytes = stat.blocks_available().saturating_mul(stat.fragment_size());
            let message = format!("{shown} is root's alone and has {} free", format_size(free_bytes));
            if free_bytes >= FREE_BYTES_MIN {
                Finding::ok("data directory", message)
            } else {
                Finding::warn(
                    "data directory",
                    message,
                    "free some space; `hypercore image rm` removes images",
                )
            }
        }
        Err(error) => {
            Finding::warn("data directory", format!("{shown}: {error}"), "is its file system healthy?")
        }
    }
}

/// Whether a socket was left by an agent that is gone. One that systemd keeps open answers, though no agent does.
pub(super) fn socket(runtime_directory: &Path) -> Finding {
    let path = runtime_directory.join("api.sock");
    match UnixStream::connect(&path) {
        Ok(_) => Finding::ok("socket", format!("{} is listened on", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            let message = format!("{} was left by an agent that is gone", path.display());
            let hint = format!("`rm {}`, or let the next `hypercore up` replace it", path.display());
            Finding::warn("socket", message, hint).fixed_by(Fix::RemoveSocket(path))
        }
        Err(_) => Finding::ok("socket", format!("{} is made by `hypercore up`", path.display())),
    }
}

/// What is reserved of what workloads may reserve, as a part of a sentence.
fn room_left(reserved: Option<v1::Resources>, capacity: Option<v1::Resources>) -> String {
    let (Some(reserved), Some(capacity)) = (reserved, capacity) else { return String::new() };
    let cpus = |resources: v1::Resources| f64::from(resources.cpu_millis) / 1000.0;
    format!(
        "; workloads reserve {} of {} CPUs and {} of {}",
        cpus(reserved),
        cpus(capacity),
        format_size(reserved.memory_bytes),
        format_size(capacity.memory_bytes)
    )
}

/// Whether an agent answers.
pub(super) async fn agent(context: &Context) -> (Finding, bool) {
    let asked = async {
        let client = context.connect().await?;
        client.node_info().await.map_err(crate::failure::Failure::from)
    };
    match asked.await {
        Ok(info) => {
            let node = info.node.unwrap_or_default();
            let id = node.id.get(..16).unwrap_or(&node.id);
            let reserved = room_left(info.reserved, info.capacity);
            let message = format!("{} answers at {}, node {id}{reserved}", node.version, context.endpoint());
            (Finding::ok("agent", message), true)
        }
        Err(failure) => {
            let hint = failure.error.hint.unwrap_or_default();
            (Finding::warn("agent", failure.error.message, hint), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_is_told_in_full_and_several_are_counted() {
        assert_eq!(one_line("it has a mistake:\n  a:1: x"), "it has a mistake: a:1: x");
        assert_eq!(one_line("it has 2 mistakes:\n  a:1: x\n  a:2: y"), "it has 2 mistakes");
        assert_eq!(one_line("it can't be read"), "it can't be read");
    }
}
