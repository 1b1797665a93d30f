//! The checks of what microVMs need. What is missing is a warning: containers do without.

use std::path::Path;

use super::{Finding, fix::Fix};

/// QEMU, the tools that make disks, the guest agent and the kernel.
pub(super) fn all(kernel: Option<&Path>, data_directory: &Path) -> Vec<Finding> {
    vec![qemu(), disks(), agent(), self::kernel(kernel, data_directory)]
}

fn qemu() -> Finding {
    match hypercore_agent::find_qemu() {
        Some(path) => Finding::ok("qemu", format!("{} runs microVMs, in software", path.display())),
        None => Finding::warn(
            "qemu",
            "qemu-system-x86_64, which runs microVMs, is not there",
            "install it: `apt-get install --no-install-recommends qemu-system-x86`",
        )
        .fixed_by(Fix::Install("qemu-system-x86")),
    }
}

fn disks() -> Finding {
    match ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].iter().find(|path| Path::new(path).is_file()) {
        Some(path) => Finding::ok("mkfs.ext4", *path),
        None => Finding::warn(
            "mkfs.ext4",
            "mkfs.ext4, which makes the disks of microVMs, is not there",
            "install it: `apt-get install e2fsprogs`",
        )
        .fixed_by(Fix::Install("e2fsprogs")),
    }
}

fn agent() -> Finding {
    match hypercore_agent::find_program("hypercore-guest") {
        Ok(path) => Finding::ok("hypercore-guest", path.display().to_string()),
        Err(path) => Finding::warn(
            "hypercore-guest",
            format!("{}, the first process of microVMs, is not there", path.display()),
            "install hypercore-guest beside the hypercore program",
        ),
    }
}

fn kernel(named: Option<&Path>, data_directory: &Path) -> Finding {
    match hypercore_agent::find_kernel(named, data_directory) {
        Ok(kernel) => {
            Finding::ok("guest kernel", format!("{} at {}", kernel.release, kernel.image.display()))
        }
        Err(error) if named.is_some() => Finding::warn(
            "guest kernel",
            error.to_string(),
            "name another one in [runtime] kernel, or none: then `hypercore doctor --fix` fetches one",
        ),
        Err(error) => {
            let own = data_directory.join("kernel");
            let hint = "`hypercore doctor --fix` fetches the distribution's for clouds";
            let finding = Finding::warn("guest kernel", error.to_string(), hint);
            // What is there was put there by somebody, and is not ours to replace.
            if own.exists() { finding } else { finding.fixed_by(Fix::FetchKernel(own)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_fetched_only_where_there_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let own = scratch.path().join("kernel");
        let named = kernel(Some(&scratch.path().join("nosuch")), scratch.path());
        assert_eq!(named.fix, None, "a name in the configuration is a mistake that a person must mend");
        if !Path::new("/usr/lib/hypercore/kernel").exists() {
            assert_eq!(kernel(None, scratch.path()).fix, Some(Fix::FetchKernel(own.clone())));
        }
        std::fs::create_dir(&own).unwrap();
        assert_eq!(kernel(None, scratch.path()).fix, None);
    }
}
