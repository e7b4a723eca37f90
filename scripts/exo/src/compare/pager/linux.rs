//! The same program in a Linux guest: the same machine, a control group with as much memory, and swap on a
//! disk of the same size.

use super::super::boot::LIMIT;
use super::Comparison;
use super::boot::{Heard, Setting};
use crate::build::symbols::Symbols;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_atomically;
use crate::host::programs::program_path;
use crate::linux::{DISK_MODULES, Kernel, LinuxGuest, Step, static_program};
use crate::machine::args::MachineArgs;
use crate::session;
use pager::Program;
use results::PagingLine;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program in the guest.
const PROGRAM: &str = "/pager";
/// What turns swap on.
const SWAPON: &str = "swapon";

/// A kernel, the program to run on it, and a disk to swap to.
pub struct Peer {
    kernel: Kernel,
    program: PathBuf,
    swap: PathBuf,
    /// `swapon` of this host, with what it needs.
    swapon: Vec<PathBuf>,
}

impl Peer {
    /// Fetches the kernel, builds the program, makes the disk.
    ///
    /// # Errors
    ///
    /// If the kernel or `swapon` are not offered here, or the program can't be built.
    pub fn prepare(checkout: &Checkout, programs: &[Program], scale: usize) -> Result<Peer> {
        let kernel = Kernel::fetch(checkout)?;
        let swapon = with_libraries(SWAPON)?;
        let program = static_program(checkout, super::APP, &["linux"])?;
        let pages = programs.iter().map(|program| program.pages(scale)).max().unwrap_or(0);
        // A page for the header, and room for what else the group has to swap.
        let image = swap_image(2 * pages + 1024);
        let swap = checkout.artefacts("pager")?.join(format!("swap-{}.img", image.len()));
        write_atomically(&swap, &image)?;
        Ok(Peer { kernel, program, swap, swapon })
    }

    /// Boots, waits for the result, and completes it.
    pub fn boot(&self, comparison: &Comparison<'_>, setting: &Setting<'_>) -> Result<PagingLine> {
        let mut guest = LinuxGuest::new(self.kernel.clone());
        guest.modules = DISK_MODULES.to_vec();
        guest.file_systems = true;
        let place = |path: &PathBuf| (path.to_string_lossy().into_owned(), path.clone());
        guest.files = self.swapon.iter().map(place).collect();
        guest.files.push((PROGRAM.into(), self.program.clone()));
        let swapon = self.swapon[0].to_string_lossy().into_owned();
        guest.steps = vec![
            Step::Run { path: swapon, words: vec!["/dev/vda".into()] },
            Step::Run { path: PROGRAM.into(), words: setting.words().into() },
        ];
        let arguments = MachineArgs { disk: Some(self.swap.clone()), ..comparison.machine.clone() };
        let machine = guest.machine(&comparison.checkout, &arguments)?;
        if comparison.args.verbose {
            eprintln!("exo: {}", machine.shell_command());
        }
        let (mut heard, mut symbols) = (Heard::default(), Symbols::default());
        let limit = arguments.limit().unwrap_or(LIMIT);
        let verbose = comparison.args.verbose;
        let outcome =
            session::run(&machine, Some(limit), &mut |line, _| heard.line(line, &mut symbols, verbose))?;
        let mut line = heard.result(setting, outcome.check())?;
        line.platform = Some("qemu-linux".into());
        line.accel = Some(machine.accel.name().into());
        Ok(line)
    }
}

/// A disk of so many pages to swap to: `union swap_header` of Linux, include/linux/swap.h.
fn swap_image(pages: u64) -> Vec<u8> {
    let mut image = vec![0; pages as usize * pager::PAGE_BYTES];
    let version = 1u32.to_le_bytes();
    let last_page = (pages as u32 - 1).to_le_bytes();
    image[1024..1028].copy_from_slice(&version);
    image[1028..1032].copy_from_slice(&last_page);
    image[pager::PAGE_BYTES - 10..pager::PAGE_BYTES].copy_from_slice(b"SWAPSPACE2");
    image
}

/// A program of this host and the libraries that it loads, the program first.
fn with_libraries(program: &str) -> Result<Vec<PathBuf>> {
    let missing = |what: &str| Error::NotOffered {
        what: "swap on Linux to compare with".into(),
        why: format!("there is no {what}"),
    };
    let sbin = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(program));
    let path = program_path(program).or_else(|| sbin.into_iter().find(|path| path.exists()));
    let path = path.ok_or_else(|| missing(program))?;
    let ldd = program_path("ldd").ok_or_else(|| missing("ldd"))?;
    let output = Command::new(&ldd).arg(&path).env("LC_ALL", "C").output().map_err(Error::io("run", &ldd))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(std::iter::once(path).chain(libraries(&text)).collect())
}

/// The files in what `ldd` prints.
fn libraries(text: &str) -> Vec<PathBuf> {
    let word = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_a_program() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(libraries(text), ["/lib/x/libc.so.6", "/lib64/ld.so.2"].map(PathBuf::from));
    }

    #[test]
    fn the_header_is_where_linux_looks() {
        let image = swap_image(16);
        assert_eq!((image.len(), &image[4086..4096]), (65536, &b"SWAPSPACE2"[..]));
        assert_eq!(image[1024..1032], [1, 0, 0, 0, 15, 0, 0, 0]);
    }
}
