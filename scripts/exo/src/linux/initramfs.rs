//! The initial file system of a Linux guest: an archive in the format `newc` of cpio, which the kernel
//! unpacks (Documentation/driver-api/early-userspace/buffer-format.rst of its sources).

use std::collections::BTreeSet;
use std::path::Path;

/// A directory, and a file that may be executed: type and rights.
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// The archive of `files`: absolute paths in the guest, and contents. Directories on the way are made.
pub fn write(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut inode = 0;
    let mut add = |name: &str, mode: u32, content: &[u8]| {
        inode += 1;
        let builder = cpio::NewcBuilder::new(name).ino(inode).mode(mode).nlink(1);
        let mut entry = builder.write(std::mem::take(&mut archive), content.len() as u32);
        let written = std::io::Write::write_all(&mut entry, content);
        archive = written.and_then(|()| entry.finish()).expect("a vector takes what is written to it");
    };
    let relative = |path: &str| path.trim_start_matches('/').to_owned();
    let folders: BTreeSet<String> = files
        .iter()
        .flat_map(|(path, _)| {
            Path::new(path).ancestors().skip(1).map(|folder| folder.to_string_lossy().into_owned())
        })
        .map(|folder| relative(&folder))
        .filter(|folder| !folder.is_empty())
        .collect();
    // In this order a directory comes before what is in it.
    folders.iter().for_each(|folder| add(folder, DIRECTORY, &[]));
    files.iter().for_each(|(path, content)| add(&relative(path), FILE, content));
    cpio::newc::trailer(archive).expect("a vector takes what is written to it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn directories_come_first_and_files_are_whole() {
        let files = [("/init".to_owned(), vec![1; 5]), ("/a/b/c.ko".to_owned(), b"module".to_vec())];
        let archive = write(&files);
        let mut rest = &archive[..];
        let mut seen = Vec::new();
        loop {
            let mut entry = cpio::NewcReader::new(rest).unwrap();
            if entry.entry().is_trailer() {
                break;
            }
            let (name, mode) = (entry.entry().name().to_owned(), entry.entry().mode());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            seen.push((name, mode, content));
            rest = entry.finish().unwrap();
        }
        let directory = |name: &str| (name.to_owned(), DIRECTORY, vec![]);
        let file = |name: &str, content: &[u8]| (name.to_owned(), FILE, content.to_vec());
        assert_eq!(
            seen,
            [directory("a"), directory("a/b"), file("init", &[1; 5]), file("a/b/c.ko", b"module")]
        );
    }
}
