//! The semantics of entrypoint, command, environment and working directory, as tables.

use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder, RootFsBuilder};

use super::*;
use crate::volume::VolumeStore;

fn image(config: ConfigBuilder) -> ImageConfiguration {
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(Vec::<String>::new()).build().unwrap();
    let builder = ImageConfigurationBuilder::default().architecture("amd64").os("linux").rootfs(rootfs);
    builder.config(config.build().unwrap()).build().unwrap()
}

fn spec() -> WorkloadSpec {
    WorkloadSpec::of_image("web:1".parse().unwrap())
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn env_of(spec: &WorkloadSpec, image: &ImageConfiguration) -> Vec<String> {
    let user = User { uid: 0, gid: 0, supplementary_gids: Vec::new(), home: "/root".into() };
    let volumes = tempfile::tempdir().unwrap();
    let request = BundleRequest {
        id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".parse().unwrap(),
        spec,
        image,
        layers: &[],
        directory: Path::new("/nowhere"),
        memory_directory: Path::new("/nowhere"),
        volumes: &VolumeStore::open(volumes.path()).unwrap(),
        reserved: &[],
        mapping: None,
        netns: None,
        cgroup_path: "/x",
        resources: oci_spec::runtime::LinuxResources::default(),
    };
    env(&request, &user)
}

#[test]
fn what_runs_is_joined_as_docker_does() {
    type Case<'a> =
        (&'a [&'a str], &'a [&'a str], Option<&'a [&'a str]>, &'a [&'a str], Option<&'a [&'a str]>);
    let cases: [Case<'_>; 9] = [
        // image entrypoint, image cmd, spec entrypoint, spec command -> argv
        (&["e"], &["c"], None, &[], Some(&["e", "c"])),
        (&["e"], &["c"], None, &["x", "y"], Some(&["e", "x", "y"])),
        (&["e"], &["c"], Some(&["n"]), &[], Some(&["n"])),
        (&["e"], &["c"], Some(&["n"]), &["x"], Some(&["n", "x"])),
        (&[], &["c", "d"], None, &[], Some(&["c", "d"])),
        (&[], &["c"], None, &["x"], Some(&["x"])),
        (&[], &[], None, &["x"], Some(&["x"])),
        (&[], &[], None, &[], None),
        (&[""], &[], None, &[], None),
    ];
    for (entrypoint, cmd, new_entrypoint, command, expected) in cases {
        let config = ConfigBuilder::default().entrypoint(texts(entrypoint)).cmd(texts(cmd));
        let mut spec = spec();
        spec.entrypoint = new_entrypoint.map(texts);
        spec.command = texts(command);
        assert_eq!(argv(&spec, &image(config)), expected.map(texts), "{entrypoint:?} {cmd:?} {command:?}");
    }
}

#[test]
fn the_environment_is_layered_and_keys_replace() {
    let config = ConfigBuilder::default().env(texts(&["PATH=/bin", "A=1", "B=2", "A=3", "broken", "C=x=y"]));
    let mut spec = spec();
    spec.env.insert("B".into(), "new".into());
    spec.env.insert("AB".into(), String::new());
    let expected = ["PATH=/bin", "HOSTNAME=1b4e28ba-2fa", "A=3", "B=new", "C=x=y", "AB=", "HOME=/root"];
    assert_eq!(env_of(&spec, &image(config)), texts(&expected));
}

#[test]
fn a_terminal_names_its_type_and_the_image_may_say_otherwise() {
    let mut spec = spec();
    spec.tty = true;
    spec.name = Some("front".parse().unwrap());
    let plain = image(ConfigBuilder::default().env(texts(&["HOME="])));
    assert_eq!(env_of(&spec, &plain), texts(&[PATH_DEFAULT, "HOSTNAME=front", "TERM=xterm", "HOME=/root"]));
    let coloured = image(ConfigBuilder::default().env(texts(&["TERM=screen", "HOME=/h"])));
    assert_eq!(env_of(&spec, &coloured), texts(&[PATH_DEFAULT, "HOSTNAME=front", "TERM=screen", "HOME=/h"]));
}

#[test]
fn the_working_directory_is_absolute_and_clean() {
    for (of_image, of_spec, expected) in [
        (None, None, Some("/")),
        (Some(""), None, Some("/")),
        (Some("/srv/./web/../app/"), None, Some("/srv/app")),
        (Some("/srv"), Some("/tmp"), Some("/tmp")),
        (None, Some("/../../etc"), Some("/etc")),
        (Some("srv"), None, None),
    ] {
        let config =
            of_image.map_or_else(ConfigBuilder::default, |dir| ConfigBuilder::default().working_dir(dir));
        let mut spec = spec();
        spec.workdir = of_spec.map(str::to_owned);
        let found = workdir(&spec, &image(config)).ok();
        assert_eq!(found.as_deref(), expected.map(Path::new), "{of_image:?} {of_spec:?}");
    }
}
