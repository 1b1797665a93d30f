//! The first process: what runs, as whom, where and with what rights.
//! Semantics are those of the OCI image spec ("config", field by field) and, where that is silent, docker's.
//! It refuses privileges that weren't asked for: no set-uid program inside gains any (`no_new_privileges`).

use std::path::{Component, Path, PathBuf};

use hypercore_model::{WorkloadId, WorkloadSpec, user::User};
use oci_spec::{
    image::{Config, ImageConfiguration},
    runtime::{Process, User as ProcessUser},
};

use super::{BundleError, BundleRequest, hostname, rights, rootfs::Root};

/// Where programs are looked up if neither image nor spec says.
const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Entrypoint and arguments. An entrypoint in the spec drops the image's arguments too. `None` if there is nothing to run.
#[must_use]
pub fn argv(spec: &WorkloadSpec, image: &ImageConfiguration) -> Option<Vec<String>> {
    let of_image = |field: fn(&Config) -> &Option<Vec<String>>| {
        image.config().as_ref().and_then(|config| field(config).clone()).unwrap_or_default()
    };
    let entrypoint = spec.entrypoint.clone().unwrap_or_else(|| of_image(Config::entrypoint));
    let command = match (&spec.entrypoint, spec.command.is_empty()) {
        (_, false) => spec.command.clone(),
        (Some(_), true) => Vec::new(),
        (None, true) => of_image(Config::cmd),
    };
    let argv = [entrypoint, command].concat();
    argv.first().is_some_and(|program| !program.is_empty()).then_some(argv)
}

/// Who it runs as: the spec's user, or the image's, or root.
pub(super) fn user(
    spec: &WorkloadSpec,
    image: &ImageConfiguration,
    root: &Root,
) -> Result<User, BundleError> {
    let of_image = image.config().as_ref().and_then(|config| config.user().as_deref());
    let request = spec.user.as_deref().or(of_image).unwrap_or("");
    Ok(User::lookup(request, &root.accounts("/etc/passwd")?, &root.accounts("/etc/group")?)?)
}

/// The working directory: the spec's, or the image's, or `/`. Free of `.` and `..`.
///
/// # Errors
/// [`BundleError::WorkdirRelative`].
pub fn workdir(spec: &WorkloadSpec, image: &ImageConfiguration) -> Result<PathBuf, BundleError> {
    let of_image = image.config().as_ref().and_then(|config| config.working_dir().as_deref());
    let text = spec.workdir.as_deref().or(of_image).filter(|text| !text.is_empty()).unwrap_or("/");
    if !text.starts_with('/') {
        return Err(BundleError::WorkdirRelative(text.to_owned()));
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// The whole process of the runtime spec.
pub(super) fn process(
    request: &BundleRequest<'_>,
    argv: Vec<String>,
    user: &User,
    workdir: PathBuf,
) -> Result<Process, BundleError> {
    let mut process = Process::default();
    process
        .set_args(Some(argv))
        .set_env(Some(env(request, user)))
        .set_cwd(workdir)
        .set_user(process_user(user))
        .set_terminal(Some(request.spec.tty))
        .set_capabilities(Some(rights::capabilities(request.spec)?))
        .set_rlimits(Some(rights::limits(request.spec)))
        .set_no_new_privileges(Some(true))
        .set_oom_score_adj(Some(0));
    Ok(process)
}

/// What [`environment`] says, and a home.
fn env(request: &BundleRequest<'_>, user: &User) -> Vec<String> {
    let mut env = environment(request.id, request.spec, request.image);
    // An empty HOME would make the C library look it up itself later, by plugins out of the image.
    if !env.iter().any(|entry| entry.strip_prefix("HOME=").is_some_and(|home| !home.is_empty())) {
        set(&mut env, format!("HOME={}", user.home));
    }
    env
}

/// Defaults first, then the image's, then the spec's; a key that comes again replaces in place. Without a home, which
/// is its user's.
#[must_use]
pub fn environment(id: WorkloadId, spec: &WorkloadSpec, image: &ImageConfiguration) -> Vec<String> {
    let mut env = vec![PATH_DEFAULT.to_owned(), format!("HOSTNAME={}", hostname(id, spec))];
    if spec.tty {
        env.push("TERM=xterm".to_owned());
    }
    let of_image = image.config().as_ref().and_then(|config| config.env().clone());
    for entry in of_image.unwrap_or_default() {
        // An entry without `=` can't be given to a process; docker drops such of an image too.
        if entry.contains('=') && !entry.contains('\0') {
            set(&mut env, entry);
        }
    }
    for (key, value) in &spec.env {
        set(&mut env, format!("{key}={value}"));
    }
    env
}

fn set(env: &mut Vec<String>, entry: String) {
    let key_len = entry.find('=').map_or(entry.len(), |at| at + 1);
    match env.iter_mut().find(|old| old.as_bytes().starts_with(&entry.as_bytes()[..key_len])) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn process_user(user: &User) -> ProcessUser {
    // The primary group is listed too, so that nothing that drops supplementary groups on the way can lose it
    // (CVE-2022-36109).
    let mut gids = vec![user.gid];
    gids.extend(&user.supplementary_gids);
    let mut process_user = ProcessUser::default();
    process_user.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(gids));
    process_user
}

#[cfg(test)]
mod tests;
