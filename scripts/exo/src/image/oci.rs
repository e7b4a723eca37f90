//! OCI images: kernel and bundle (or the unikernel alone) as files of a container image, the form in which
//! registries keep and hand out things. Not to be run as a container: hypervisors that boot kernels from
//! images (KubeVirt) or tools that unpack them take the files from there.
//!
//! Layout, media types and fields: the OCI image specification, version 1.1, `image-layout.md`,
//! `manifest.md`, `config.md`, `layer.md`. The same input gives the same bytes: no times, no users.

use crate::error::{Error, Result};
use crate::host::output::write_atomically;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Tag of the only image in a layout.
pub const TAG: &str = "latest";

/// A file in the image: path without leading slash, and content.
pub type Entry = (String, Vec<u8>);

/// Writes an image layout to the directory `folder`; what the labels say is `labels`. An older layout is
/// replaced.
pub fn write_layout(folder: &Path, entries: &[Entry], labels: &Value) -> Result<()> {
    if folder.exists() && !folder.join("oci-layout").is_file() {
        let fix = "name another by --out, or remove it".to_owned();
        let what = format!("{} is there, and is no OCI layout", folder.display());
        return Err(Error::Argument { what, fix });
    }
    // Made beside its place, which it takes when it is complete.
    let place = match folder.canonicalize() {
        Ok(place) => place,
        Err(_) => std::path::absolute(folder).map_err(Error::io("resolve", folder))?,
    };
    let above = place.parent().unwrap_or(&place);
    std::fs::create_dir_all(above).map_err(Error::io("create", above))?;
    let scratch = tempfile::tempdir_in(above).map_err(Error::io("create a directory in", above))?;
    let layout = scratch.path().join("layout");
    for (path, bytes) in files(entries, labels).map_err(Error::io("pack", folder))? {
        let path = layout.join(path);
        let parent = path.parent().unwrap_or(&layout);
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        write_atomically(&path, &bytes)?;
    }
    if place.exists() {
        std::fs::rename(&place, scratch.path().join("old")).map_err(Error::io("replace", folder))?;
    }
    std::fs::rename(&layout, &place).map_err(Error::io("create", folder))
}

/// Writes an image layout as one tar file.
pub fn write_archive(path: &Path, entries: &[Entry], labels: &Value) -> Result<()> {
    let files = files(entries, labels).map_err(Error::io("pack", path))?;
    let files: Vec<Entry> =
        files.into_iter().map(|(path, bytes)| (path.to_string_lossy().into_owned(), bytes)).collect();
    write_atomically(path, &tar(&files).map_err(Error::io("pack", path))?)
}

/// The files of an image layout.
fn files(entries: &[Entry], labels: &Value) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let layer = tar(entries)?;
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&layer)?;
    let packed = packer.finish()?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [{ "created_by": "exo image" }],
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut named = descriptor(MANIFEST, &manifest);
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": TAG });
    named["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [named],
    });
    let blob = |bytes: Vec<u8>| (PathBuf::from("blobs/sha256").join(hexadecimal(&bytes)), bytes);
    Ok(vec![
        (PathBuf::from("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()),
        (PathBuf::from("index.json"), index.to_string().into_bytes()),
        blob(packed),
        blob(config),
        blob(manifest),
    ])
}

/// Media type of a manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar archive, directories included, all of it readable by everyone.
fn tar(entries: &[Entry]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut made: Vec<PathBuf> = Vec::new();
    for (path, bytes) in entries {
        let mut folders: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        folders.retain(|folder| !folder.as_os_str().is_empty());
        for folder in folders.into_iter().rev() {
            if !made.iter().any(|other| other == folder) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                builder.append_data(&mut header, folder, std::io::empty())?;
                made.push(folder.to_path_buf());
            }
        }
        let mut header = header(tar::EntryType::Regular, 0o444, bytes.len() as u64);
        builder.append_data(&mut header, path, bytes.as_slice())?;
    }
    builder.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Entry> {
        vec![("boot/kernel.elf".into(), b"kernel".to_vec()), ("boot/bundle".into(), vec![7; 5000])]
    }

    #[test]
    fn every_digest_names_a_blob_of_its_size() {
        let files = files(&sample(), &json!({})).unwrap();
        let find = |name: &str| &files.iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
        let follow = |descriptor: &Value| -> Value {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = find(digest);
            assert_eq!(descriptor["size"], bytes.len());
            assert_eq!(hexadecimal(bytes), digest);
            serde_json::from_slice(bytes).unwrap_or_default()
        };
        let index: Value = serde_json::from_slice(find("index.json")).unwrap();
        let manifest = follow(&index["manifests"][0]);
        let config = follow(&manifest["config"]);
        follow(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar(&sample()).unwrap()));
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(files(&sample(), &json!({})).unwrap(), files(&sample(), &json!({})).unwrap());
        let bytes = tar(&sample()).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|one| one.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["boot/", "boot/kernel.elf", "boot/bundle"].map(|path| path.trim_end_matches('/')));
    }

    #[test]
    fn what_is_no_layout_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("precious"), "data").unwrap();
        assert!(write_layout(folder.path(), &sample(), &json!({})).is_err());
        let fresh = folder.path().join("fresh");
        write_layout(&fresh, &sample(), &json!({})).unwrap();
        write_layout(&fresh, &sample(), &json!({})).unwrap();
        assert!(fresh.join("index.json").is_file() && folder.path().join("precious").is_file());
    }
}
