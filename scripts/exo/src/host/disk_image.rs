//! Raw disk images on this host: looked at before they are used, and locked as QEMU locks them.
//!
//! QEMU (`block/file-posix.c`, "raw_apply_lock_bytes") knows a byte of the file for each thing that an
//! opener may do: 100 + N for "I do it", 200 + N for "nobody else may". An opener takes shared locks on the
//! bytes that concern it, and then asks whether somebody holds the opposite ones. The locks belong to the
//! open file, and end with it.

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// What will be done with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Others may read it, too.
    Read,
    /// Nobody else may have it open.
    Write,
}

/// First byte of those for what openers do.
const DOES: i64 = 100;
/// First byte of those for what openers forbid others.
const FORBIDS: i64 = 200;
/// QEMU's numbers: reads, and wants what it reads to be consistent.
const READS: i64 = 0;
/// Writes.
const WRITES: i64 = 1;
/// Changes the length.
const RESIZES: i64 = 3;

/// Beginnings of formats that are no raw images: offset, bytes, the name that `qemu-img` knows.
const FORMATS: [(usize, &[u8], &str); 7] = [
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"QED\0", "qed"),
    (0x40, &0xbeda_107f_u32.to_le_bytes(), "vdi"),
];

/// Opens a raw image, and locks it.
///
/// # Errors
///
/// [`Error::ImageFormat`] and [`Error::ImageInUse`]; [`Error::Io`] if it can't be opened or is no image.
pub fn open(image: &Path, access: Access) -> Result<File> {
    let file = open_file(image, access)?;
    refuse_other_formats(&file, image)?;
    lock(&file, access).map_err(|does| Error::ImageInUse { image: image.to_path_buf(), does })?;
    Ok(file)
}

/// Looks whether an image that another program will open is a raw one.
pub fn check_raw(image: &Path) -> Result<()> {
    refuse_other_formats(&open_file(image, Access::Read)?, image)
}

/// Refuses to replace an image that another program has open.
pub fn check_unused(image: &Path) -> Result<()> {
    match image.metadata() {
        Ok(found) if found.is_file() => {
            let file = open_file(image, Access::Write)?;
            lock(&file, Access::Write).map_err(|does| Error::ImageInUse { image: image.to_path_buf(), does })
        }
        _ => Ok(()),
    }
}

fn open_file(image: &Path, access: Access) -> Result<File> {
    let refused = Error::io("open disk image", image);
    // Opening a pipe would wait for its other end.
    let kind = match image.metadata() {
        Ok(found) => found.file_type(),
        Err(error) => return Err(refused(error)),
    };
    if kind.is_dir() {
        return Err(refused(ErrorKind::IsADirectory.into()));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(refused(std::io::Error::other("neither a file nor a block device")));
    }
    File::options().read(true).write(access == Access::Write).open(image).map_err(refused)
}

fn refuse_other_formats(file: &File, image: &Path) -> Result<()> {
    let mut start = [0; 512];
    let mut length = 0;
    while length < start.len() {
        match file.read_at(&mut start[length..], length as u64).map_err(Error::io("read", image))? {
            0 => break,
            bytes => length += bytes,
        }
    }
    let known = |(at, mark, _): &&(usize, &[u8], &str)| {
        start[..length].get(*at..).is_some_and(|s| s.starts_with(mark))
    };
    match FORMATS.iter().find(known) {
        Some((_, _, format)) => Err(Error::ImageFormat { image: image.to_path_buf(), format }),
        None => Ok(()),
    }
}

/// Locks an image as QEMU does; says what another program does with it if that is in the way.
fn lock(file: &File, access: Access) -> std::result::Result<(), &'static str> {
    let does: &[i64] = if access == Access::Write { &[READS, WRITES] } else { &[READS] };
    let forbids = [WRITES, RESIZES];
    let held = does.iter().map(|what| DOES + what).chain(forbids.map(|what| FORBIDS + what));
    for byte in held {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range(byte, libc::F_RDLCK))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Err("has locked"),
            // A file system without locks: QEMU goes on there, too.
            Err(_) => return Ok(()),
        }
    }
    let writes = forbids.iter().map(|what| (DOES + what, "writes"));
    let opposite = writes.chain(does.iter().map(|what| (FORBIDS + what, "uses")));
    for (byte, word) in opposite {
        let mut found = range(byte, libc::F_WRLCK);
        let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut found));
        if asked.is_ok() && found.l_type != libc::F_UNLCK as i16 {
            return Err(word);
        }
    }
    Ok(())
}

/// One byte, to be locked that way.
fn range(byte: i64, kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    fn image(folder: &Path) -> PathBuf {
        let image = folder.join("a.img");
        File::create(&image).unwrap().set_len(1 << 20).unwrap();
        image
    }

    #[test]
    fn other_formats_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        check_raw(&image).unwrap();
        for (at, mark, name) in FORMATS {
            let mut bytes = vec![0; 4096];
            bytes[at..at + mark.len()].copy_from_slice(mark);
            std::fs::write(&image, bytes).unwrap();
            for error in [check_raw(&image).unwrap_err(), open(&image, Access::Write).unwrap_err()] {
                let fix = error.fix().unwrap();
                assert!(
                    error.to_string().contains(name) && fix.contains("qemu-img convert"),
                    "{error}: {fix}"
                );
            }
        }
        std::fs::write(&image, "QF").unwrap();
        check_raw(&image).unwrap();
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let in_use = |access| matches!(open(&image, access), Err(Error::ImageInUse { .. }));
        let reader = open(&image, Access::Read).unwrap();
        assert!(!in_use(Access::Read) && in_use(Access::Write) && check_unused(&image).is_err());
        drop(reader);
        let writer = open(&image, Access::Write).unwrap();
        assert!(in_use(Access::Read) && in_use(Access::Write));
        drop(writer);
        assert!(!in_use(Access::Write));
    }

    /// A machine that does nothing but to hold the image.
    fn qemu(program: &Path, image: &Path, options: &str) -> Child {
        let drive = format!("if=none,id=d,format=raw,file={}{options}", image.display());
        Command::new("timeout")
            .arg("60")
            .arg(program)
            .args([
                "-S",
                "-nodefaults",
                "-display",
                "none",
                "-drive",
                &drive,
                "-device",
                "virtio-blk-pci,drive=d",
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Whether `wanted` is true before a generous limit.
    fn comes(mut wanted: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(50) {
            if wanted() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    #[test]
    fn qemu_and_this_tool_exclude_each_other() {
        let test = "qemu_and_this_tool_exclude_each_other";
        let Some(program) = host_needs::program(test, "qemu-system-x86_64") else { return };
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        for (options, hinders_readers) in [("", true), (",snapshot=on", false)] {
            let mut machine = qemu(&program, &image, options);
            assert!(comes(|| open(&image, Access::Write).is_err()), "QEMU's lock is seen");
            assert_eq!(open(&image, Access::Read).is_err(), hinders_readers, "{options}");
            // `timeout` passes this signal on.
            let pid = rustix::process::Pid::from_child(&machine);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            machine.wait().unwrap();
            assert!(comes(|| open(&image, Access::Write).is_ok()), "QEMU is gone");
        }
        for (access, options) in [(Access::Write, ""), (Access::Write, ",snapshot=on"), (Access::Read, "")] {
            let held = open(&image, access).unwrap();
            let ended = qemu(&program, &image, options).wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(!ended.status.success() && said.contains("lock"), "{access:?}{options}: {said}");
            drop(held);
        }
    }
}
