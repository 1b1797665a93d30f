//! Images: from a registry and from files, good ones and each kind of bad one.

mod access;
mod prune;
mod verify;

use hypercore_fixtures::{ImageBuilder, skip_without_root};

use crate::node::{Node, free_address, registry};

#[test]
fn an_image_is_pulled_listed_run_and_removed() {
    if skip_without_root("an_image_is_pulled_listed_run_and_removed") {
        return;
    }
    let (_registry, reference) = registry();
    let mut node = Node::prepare();
    node.start_agent();
    let ended = node.run(&["run", "--rm", &reference, "--", "echo", "pulled"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("pulled\n", ""));
    assert_eq!(node.run(&["image", "ls", "-q"]).expect(0).stdout, format!("{reference}\n"));
    assert_eq!(node.run(&["image", "pull", &reference]).expect(0).stdout, format!("{reference}\n"));
    node.run(&["image", "rm", &reference]).expect(0);
    assert_eq!(node.run(&["image", "ls", "--json"]).expect(0).json(), serde_json::json!([]));
    node.run(&["image", "rm", &reference]).expect(3);
    node.finish();
}

#[test]
fn layouts_and_archives_are_imported_under_their_names_or_another() {
    if skip_without_root("layouts_and_archives_are_imported_under_their_names_or_another") {
        return;
    }
    let mut node = Node::prepare();
    node.start_agent();
    let image = ImageBuilder::busybox().unwrap().cmd(["echo", "imported"]).build();
    let (layout, archive) = (node.path("layout"), node.path("image.tar"));
    image.write_layout(&layout, "tool:1").unwrap();
    image.write_archive(&archive, "tool:2").unwrap();
    let import = |words: &[&str]| node.run(&[&["image", "import"], words].concat()).expect(0).stdout;
    assert_eq!(import(&[layout.to_str().unwrap()]), "docker.io/library/tool:1\n");
    assert_eq!(import(&[archive.to_str().unwrap()]), "docker.io/library/tool:2\n");
    assert_eq!(import(&[archive.to_str().unwrap(), "--as", "other:3"]), "docker.io/library/other:3\n");
    assert_eq!(node.run(&["run", "--rm", "other:3"]).expect(0).stdout, "imported\n");
    std::fs::write(node.path("junk.tar"), "junk").unwrap();
    for bad in ["junk.tar", "nosuch.tar"] {
        let ended = node.run(&["image", "import", node.path(bad).to_str().unwrap()]);
        assert!(matches!(ended.code, Some(1..=3)) && ended.stderr.starts_with("error: "), "{ended:?}");
    }
    node.finish();
}

#[test]
fn a_missing_image_is_one_line_that_names_image_and_registry_and_a_hint() {
    if skip_without_root("a_missing_image_is_one_line_that_names_image_and_registry_and_a_hint") {
        return;
    }
    let (registry, _) = registry();
    let mut node = Node::prepare();
    node.start_agent();
    let nosuch = registry.reference("app/nosuch:1");
    for (arguments, code) in [
        (&["run", "--name", "web", &nosuch][..], 125),
        (&["run", "-d", "--name", "web", &nosuch], 3),
        (&["image", "pull", &nosuch], 3),
    ] {
        let ended = node.run(arguments).expect(code);
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{ended:?}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains("app/nosuch"), "{ended:?}");
        assert!(lines[0].contains(registry.address()) && lines[1].starts_with("hint: "), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout, "", "what never ran was left behind");
    node.finish();
}

#[test]
fn a_registry_that_is_not_there_is_told_as_such() {
    if skip_without_root("a_registry_that_is_not_there_is_told_as_such") {
        return;
    }
    let mut node = Node::prepare();
    node.start_agent();
    let address = free_address();
    let reference = format!("{address}/app/web:1");
    let ended = node.run(&["run", "-d", &reference]).expect(5);
    assert!(ended.stderr.contains(&address.to_string()) && ended.stderr.contains("hint: "), "{ended:?}");
    node.run(&["run", &reference]).expect(125);
    node.run(&["image", "pull", &reference]).expect(5);
    node.finish();
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused() {
    if skip_without_root("content_that_is_not_what_its_digest_says_is_refused") {
        return;
    }
    let (registry, reference) = registry();
    let mut node = Node::prepare();
    node.start_agent();
    let layer = &ImageBuilder::busybox().unwrap().build().layers[0];
    let file = registry.blob_file(&layer.digest);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    let ended = node.run(&["image", "pull", &reference]).expect(1);
    assert!(ended.stderr.contains("digest") && ended.stderr.contains("hint: "), "{ended:?}");
    assert_eq!(node.run(&["image", "ls", "-q"]).expect(0).stdout, "");
    node.finish();
}
