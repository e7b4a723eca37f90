//! The documents: links lead somewhere, the map stays a map; and what manifests and programs of tests say.

use std::path::{Path, PathBuf};

/// The most bytes of ARCHITECTURE.md. What is longer belongs on a page of its own in `docs/`.
const MAP_BYTES: usize = 15_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a checkout")
}

/// Targets of the links in a page that lead to files, without their anchors.
fn links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    files.filter_map(|target| target.split('#').next()).collect()
}

#[test]
fn links_lead_to_files() {
    let root = root();
    let pages = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "libos-fs/bench/README.md"]
        .map(|name| root.join(name));
    let docs = std::fs::read_dir(root.join("docs")).expect("the folder docs");
    let docs = docs.map(|entry| entry.expect("an entry of a folder").path());
    let mut dead = Vec::new();
    for page in pages.into_iter().chain(docs) {
        let text = std::fs::read_to_string(&page).expect("a page");
        let folder = page.parent().expect("a folder");
        let lost = links(&text).into_iter().filter(|target| !folder.join(target).exists());
        dead.extend(lost.map(|target| format!("{}: {target}", page.display())));
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
    assert_eq!(links("[a](b.md#c), [d](https://e), [f](#g), [h](../i)"), ["b.md", "../i"]);
}

#[test]
fn the_map_is_short() {
    let bytes = std::fs::read(root().join("ARCHITECTURE.md")).expect("the map").len();
    assert!(bytes <= MAP_BYTES, "ARCHITECTURE.md has {bytes} bytes, more than {MAP_BYTES}");
}

/// Both go unnoticed: an overflow that is not checked goes on with a wrong number, and a kernel made for size
/// takes a quarter more instructions for the same call.
#[test]
fn the_kernels_image_checks_overflows_and_is_made_for_speed() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let profile = manifest.split("[profile.image.package.hyperexo]\n").nth(1);
    let profile = profile.expect("the kernel's image has a profile of its own");
    let profile = profile.split("\n[").next().unwrap();
    for wanted in ["opt-level = 2", "overflow-checks = true"] {
        assert!(profile.lines().any(|line| line == wanted), "the kernel's image wants {wanted}");
    }
}

/// Crates with one program of tests (`autotests = false`): a file that it does not name is never compiled.
#[test]
fn every_file_of_tests_is_in_its_program() {
    for name in ["libos-fs", "libos-net", "unikernels/httpd", "unikernels/kv"] {
        let folder = root().join(name).join("tests");
        let program = std::fs::read_to_string(folder.join("main.rs")).expect("the program");
        let named: Vec<_> =
            program.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
        for entry in std::fs::read_dir(&folder).expect("its folder") {
            let path = entry.expect("an entry of a folder").path();
            let module = path.file_stem().unwrap_or_default().to_string_lossy();
            let is_there = module == "main" || named.contains(&&*module);
            assert!(is_there || path.is_dir(), "{name}/tests/main.rs does not name {module}");
        }
    }
}
