//! Boot images: a CD with GRUB, the kernel as a Multiboot2 image, and modules.

use crate::error::{Error, Result};
use crate::host::children::describe;
use crate::host::output::write_atomically;
use crate::host::programs::program_path;
use crate::units::shell_quote;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Makes boot images.
pub const PROGRAM: &str = "grub-mkrescue";
/// GRUB's modules for PC firmware.
pub const MODULES: &str = "/usr/lib/grub/i386-pc";

/// What goes onto the CD.
pub struct Contents<'a> {
    /// ELF of the kernel.
    pub kernel: &'a Path,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Files that the kernel gets as modules, in this order.
    pub modules: &'a [&'a Path],
}

/// The first thing that is missing for making boot images: what, and the Debian package that has it.
pub fn missing() -> Option<(&'static str, &'static str)> {
    if program_path(PROGRAM).is_none() {
        return Some((PROGRAM, "grub-common"));
    }
    if !Path::new(MODULES).is_dir() {
        return Some(("GRUB for PC firmware", "grub-pc-bin"));
    }
    program_path("xorriso").is_none().then_some(("xorriso", "xorriso"))
}

/// Writes a boot image to `image`; `scratch` is a directory for what is needed in between.
pub fn write(image: &Path, contents: &Contents<'_>, scratch: &Path) -> Result<()> {
    if let Some((program, package)) = missing() {
        return Err(Error::NotInstalled { program: program.into(), package });
    }
    let menu = scratch.join("grub.cfg");
    write_atomically(&menu, menu_text(contents).as_bytes())?;
    let mut command = Command::new(PROGRAM);
    command.arg("-o").arg(image).args(["-d", MODULES]);
    // Only what is used: the CD is a tenth as large, and made in a tenth of the time.
    command.args([
        "--install-modules=multiboot2 normal iso9660 biosdisk",
        "--fonts=",
        "--locales=",
        "--themes=",
    ]);
    command.arg(graft("boot/grub/grub.cfg", &menu)).arg(graft("boot/hyperexo.elf", contents.kernel));
    for (number, module) in contents.modules.iter().enumerate() {
        command.arg(graft(&module_path(number), module));
    }
    let output = command.output().map_err(Error::io("run", Path::new(PROGRAM)))?;
    if output.status.success() && image.is_file() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Error::BootImage { status: describe(output.status), said: said.to_owned() })
}

/// Path on the CD of module number `number`.
fn module_path(number: usize) -> String {
    format!("boot/module{number}")
}

/// Tells xorriso to put a file of the host at a path of the CD, without copying it first.
fn graft(path: &str, file: &Path) -> OsString {
    let mut text = OsString::from(format!("{path}="));
    // A "=" in the name of the file would end its path on the CD.
    text.push(file.to_string_lossy().replace('\\', r"\\").replace('=', r"\="));
    text
}

/// GRUB's commands: boot at once.
fn menu_text(contents: &Contents<'_>) -> String {
    let words: Vec<String> = contents.command_line.split_whitespace().map(shell_quote).collect();
    let mut text = format!("set timeout=0\nmultiboot2 /boot/hyperexo.elf {}\n", words.join(" "));
    for number in 0..contents.modules.len() {
        text += &format!("module2 /{}\n", module_path(number));
    }
    text + "boot\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_gets_kernel_words_and_modules() {
        let modules = [Path::new("/a"), Path::new("/b")];
        let contents = Contents { kernel: Path::new("/k"), command_line: "end=exit x=;", modules: &modules };
        assert_eq!(
            menu_text(&contents),
            "set timeout=0\nmultiboot2 /boot/hyperexo.elf end=exit 'x=;'\nmodule2 /boot/module0\n\
             module2 /boot/module1\nboot\n"
        );
        assert_eq!(graft("p", Path::new("/x=y")), "p=/x\\=y");
    }
}
