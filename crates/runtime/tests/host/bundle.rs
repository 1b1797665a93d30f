//! Bundles on the real kernel: overlays of many and oddly named layers, repeated and interrupted preparation, and
//! images that try to lead out of their rootfs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use hypercore_fixtures::skip_without_root;
use hypercore_model::WorkloadSpec;
use hypercore_runtime::{
    bundle::{self, Bundle, BundleError, BundleRequest},
    volume::VolumeStore,
};
use nix::{
    sys::{
        stat::Mode,
        statvfs::{FsFlags, statvfs},
    },
    unistd::mkfifo,
};
use oci_spec::{
    image::{ConfigBuilder, ImageConfiguration, ImageConfigurationBuilder, RootFsBuilder},
    runtime::{LinuxResources, Spec},
};

/// A bundle's directory with its layers; unmounted and removed when dropped.
struct Place {
    spec: WorkloadSpec,
    layers: Vec<PathBuf>,
    directory: tempfile::TempDir,
}

impl Place {
    /// With one empty layer and a command.
    fn new() -> Self {
        let mut spec = WorkloadSpec::of_image("test:1".parse().unwrap());
        spec.command = vec!["true".into()];
        let directory = tempfile::Builder::new().prefix("hypercore-bundle-").tempdir().unwrap();
        let mut place = Self { spec, layers: Vec::new(), directory };
        place.layer("only");
        fs::create_dir(place.bundle()).unwrap();
        place
    }

    fn layer(&mut self, name: &str) -> PathBuf {
        let path = self.directory.path().join("layers").join(name);
        fs::create_dir_all(&path).unwrap();
        self.layers.push(path.clone());
        path
    }

    fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    fn prepare(&self) -> Result<Bundle, BundleError> {
        self.prepare_as(ConfigBuilder::default())
    }

    fn prepare_as(&self, config: ConfigBuilder) -> Result<Bundle, BundleError> {
        let rootfs = RootFsBuilder::default().typ("layers").diff_ids(Vec::<String>::new()).build().unwrap();
        let builder = ImageConfigurationBuilder::default().architecture("amd64").os("linux").rootfs(rootfs);
        let image: ImageConfiguration = builder.config(config.build().unwrap()).build().unwrap();
        let volumes = VolumeStore::open(&self.directory.path().join("volumes")).unwrap();
        bundle::prepare(&BundleRequest {
            id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".parse().unwrap(),
            spec: &self.spec,
            image: &image,
            layers: &self.layers,
            directory: &self.bundle(),
            memory_directory: &self.directory.path().join("memory"),
            volumes: &volumes,
            reserved: &[self.directory.path().join("node")],
            mapping: None,
            netns: None,
            cgroup_path: "/hypercore-test/x",
            resources: LinuxResources::default(),
        })
    }

    fn is_mounted(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        device(&self.rootfs()).is_ok_and(|rootfs| rootfs != device(&self.bundle()).unwrap())
    }

    /// The first process's description in `config.json`.
    fn config(&self) -> Spec {
        Spec::load(self.bundle().join("config.json")).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        bundle::discard(&self.bundle()).unwrap();
        assert!(!self.is_mounted());
    }
}

#[test]
fn many_layers_with_odd_names_make_one_rootfs() {
    if skip_without_root("many_layers_with_odd_names_make_one_rootfs") {
        return;
    }
    let mut place = Place::new();
    for index in 0..150 {
        let name = format!("{index}:with,odd\\characters and a long name {}", "x".repeat(150));
        let layer = place.layer(&name);
        fs::write(layer.join(format!("file{index}")), "").unwrap();
        fs::write(layer.join("which"), index.to_string()).unwrap();
    }
    place.prepare().unwrap();
    assert_eq!(fs::read_dir(place.rootfs()).unwrap().count(), 151);
    assert_eq!(fs::read_to_string(place.rootfs().join("which")).unwrap(), "149");
    assert!(statvfs(&place.rootfs()).unwrap().flags().contains(FsFlags::ST_NODEV));
    assert_eq!(fs::metadata(place.rootfs()).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn more_layers_than_fit_are_refused() {
    if skip_without_root("more_layers_than_fit_are_refused") {
        return;
    }
    let mut place = Place::new();
    (0..400).for_each(|index| drop(place.layer(&index.to_string())));
    assert!(matches!(place.prepare(), Err(BundleError::TooManyLayers(401))));
    assert!(!place.is_mounted());
}

#[test]
fn preparing_again_keeps_what_was_written() {
    if skip_without_root("preparing_again_keeps_what_was_written") {
        return;
    }
    let place = Place::new();
    let first = place.prepare().unwrap();
    fs::write(place.rootfs().join("written"), "by the workload").unwrap();
    let device = fs::metadata(place.rootfs()).unwrap().dev();
    // As after a crash in the middle.
    fs::remove_file(place.bundle().join("config.json")).unwrap();
    assert_eq!(place.prepare().unwrap(), first);
    assert_eq!(fs::metadata(place.rootfs()).unwrap().dev(), device, "it was mounted a second time");
    for _ in 0..2 {
        bundle::discard(&place.bundle()).unwrap();
        assert!(!place.is_mounted());
    }
    place.prepare().unwrap();
    assert_eq!(fs::read_to_string(place.rootfs().join("written")).unwrap(), "by the workload");
    assert!(!place.layers[0].join("written").exists());
}

#[test]
fn a_rootfs_in_use_is_discarded_too() {
    if skip_without_root("a_rootfs_in_use_is_discarded_too") {
        return;
    }
    let place = Place::new();
    bundle::discard(&place.bundle()).unwrap();
    place.prepare().unwrap();
    let open = fs::File::create(place.rootfs().join("open")).unwrap();
    bundle::discard(&place.bundle()).unwrap();
    assert!(!place.is_mounted());
    drop(open);
}

type Change = fn(&mut Place);
type Check = fn(&BundleError) -> bool;

/// What can be wrong with a request, and the error that says so.
const MISTAKES: [(&str, Change, Check); 8] = [
    ("no command", |place| place.spec.command.clear(), |error| matches!(error, BundleError::NoCommand)),
    ("no layers", |place| place.layers.clear(), |error| matches!(error, BundleError::NoLayers)),
    (
        "a missing layer",
        |place| place.layers.push("/no/such/layer".into()),
        |error| matches!(error, BundleError::Layer { path, .. } if path == Path::new("/no/such/layer")),
    ),
    (
        "an unknown user",
        |place| place.spec.user = Some("nobody-here".into()),
        |error| matches!(error, BundleError::User(_)),
    ),
    (
        "an unknown group",
        |place| place.spec.user = Some("0:nobody-here".into()),
        |error| matches!(error, BundleError::User(_)),
    ),
    (
        "a relative working directory",
        |place| place.spec.workdir = Some("srv".into()),
        |error| matches!(error, BundleError::WorkdirRelative(_)),
    ),
    ("a working directory that is a file", |place| work_at_file(place, "/file"), is_workdir),
    ("a working directory below a file", |place| work_at_file(place, "/file/x"), is_workdir),
];

fn work_at_file(place: &mut Place, workdir: &str) {
    fs::write(place.layers[0].join("file"), "").unwrap();
    place.spec.workdir = Some(workdir.into());
}

fn is_workdir(error: &BundleError) -> bool {
    matches!(error, BundleError::Workdir { .. })
}

#[test]
fn every_mistake_has_its_name_and_leaves_no_mount() {
    if skip_without_root("every_mistake_has_its_name_and_leaves_no_mount") {
        return;
    }
    for (name, change, is_expected) in MISTAKES {
        let mut place = Place::new();
        change(&mut place);
        let error = place.prepare().unwrap_err();
        assert!(is_expected(&error), "{name}: {error:?}");
        assert!(!place.is_mounted(), "{name}");
    }
    let place = Place::new();
    let wrong = place.prepare_as(ConfigBuilder::default().stop_signal("SIGNOTHING"));
    assert!(matches!(wrong, Err(BundleError::StopSignal(_))) && !place.is_mounted());
}

#[test]
fn accounts_outside_of_the_rootfs_are_never_read() {
    if skip_without_root("accounts_outside_of_the_rootfs_are_never_read") {
        return;
    }
    type Plant = fn(&Path, &Path);
    let cases: [(&str, Plant); 6] = [
        ("an absolute link", |passwd, outside| symlink(outside, passwd).unwrap()),
        ("a link by ..", |passwd, outside| {
            let up = PathBuf::from("../".repeat(40)).join(outside.strip_prefix("/").unwrap());
            symlink(up, passwd).unwrap();
        }),
        ("a link by /proc", |passwd, outside| {
            symlink(Path::new("/proc/self/root").join(outside.strip_prefix("/").unwrap()), passwd).unwrap();
        }),
        ("a FIFO", |passwd, _| mkfifo(passwd, Mode::S_IRUSR).unwrap()),
        ("a loop", |passwd, _| symlink("passwd", passwd).unwrap()),
        ("a huge file", |passwd, _| fs::write(passwd, "x".repeat(2 << 20)).unwrap()),
    ];
    for (name, plant) in cases {
        let mut place = Place::new();
        let outside = place.directory.path().join("passwd");
        fs::write(&outside, "intruder:x:0:0::/:/bin/sh\n").unwrap();
        let etc = place.layers[0].join("etc");
        fs::create_dir(&etc).unwrap();
        plant(&etc.join("passwd"), &outside);
        place.spec.user = Some("intruder".into());
        let error = place.prepare().unwrap_err();
        assert!(matches!(error, BundleError::User(_) | BundleError::Accounts { .. }), "{name}: {error:?}");
    }
}

#[test]
fn working_directories_are_made_inside_of_the_rootfs_only() {
    if skip_without_root("working_directories_are_made_inside_of_the_rootfs_only") {
        return;
    }
    let mut place = Place::new();
    let outside = place.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(place.layers[0].join("data")).unwrap();
    for (link, target) in [
        ("out", outside.to_str().unwrap()),
        ("up", "../../../../../../../../../../../../tmp"),
        ("in", "/data"),
    ] {
        symlink(target, place.layers[0].join(link)).unwrap();
    }
    for (workdir, is_made) in [("/out/x", false), ("/up/x", false), ("/in/new", true), ("/a/b/../c", true)] {
        place.spec.workdir = Some(workdir.into());
        assert_eq!(place.prepare().is_ok(), is_made, "{workdir}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(place.rootfs().join("data/new").is_dir() && place.rootfs().join("a/c").is_dir());
    assert!(!Path::new("/tmp/x").exists());
    assert_eq!(place.config().process().as_ref().unwrap().cwd(), Path::new("/a/c"));
}
