//! Build-script part of a bare-metal image: linker script and linker arguments.
//!
//! Images are built for the host target, from the same workspace as the host programs. So their linker
//! arguments can't stand in `RUSTFLAGS`: the build script of an image calls [`link`], and cargo passes the
//! arguments to the linker for the binaries of that package only.
//!
//! ```no_run
//! // build.rs of a unikernel
//! unikernel_build::link();
//! ```
//!
//! # Only in the profile `image`
//!
//! In a build of the whole workspace cargo unites the features of all packages, and host programs bring the
//! standard library into crates that images share with them. So images are made in the profile `image` alone,
//! where the cfg `bare_metal` is set. In other profiles (clippy, tests) the same source is checked, and
//! linked to a host program that says how to build the image.
//!
//! # What comes out
//!
//! ```text
//! IMAGE_BASE   read only      notes and Multiboot2 header first, constants
//! page         read, execute  code
//! page         read, write    data that needs no relocation any more, data, zeroed data
//! ```
//!
//! Every part starts a page. Physical and virtual addresses are the same. Symbols mark the parts:
//! `hx_rodata_start`, `hx_rodata_end`, `hx_text_start`, `hx_text_end`, `hx_data_start` and `hx_data_end`,
//! ends rounded up to a page. `hx_bss_start` and `hx_bss_end` mark the zeroed data. At its end, from
//! `hx_boot_start` on, lie the page tables and the stack for an image that a boot loader enters.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// Address at which images start.
pub const IMAGE_BASE: u64 = 0x10_0000;

/// Symbol at which HyperExo enters a unikernel; defined by `libos_core::main!`.
pub const UNIKERNEL_ENTRY: &str = "hx_start";

/// Arguments that make the host's linker produce a bare-metal image.
const ARGUMENTS: [&str; 10] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,--gc-sections",
    "-Wl,--no-eh-frame-hdr",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,norelro",
    "-Wl,-z,noexecstack",
];

/// Links the binaries of this package as unikernels.
///
/// # Panics
///
/// If cargo did not set `OUT_DIR` (not called from a build script), or the linker script can't be written
/// there.
pub fn link() {
    link_at_entry(UNIKERNEL_ENTRY);
}

/// Links the binaries of this package as a kernel. Its ELF entry point, where Multiboot2 goes, is the symbol
/// `entry`. Sections named `.note.Xen` (PVH) and `.multiboot2` are kept near the start of the file.
///
/// # Panics
///
/// As [`link`].
pub fn link_kernel(entry: &str) {
    link_at_entry(entry);
}

/// Name of the cargo profile in which images are built.
pub const IMAGE_PROFILE: &str = "image";

/// Whether `directory` (cargo's `OUT_DIR`, `TARGET/PROFILE/build/PACKAGE/out`) belongs to [`IMAGE_PROFILE`].
fn is_image_build(directory: &Path) -> bool {
    directory.ancestors().nth(3).and_then(Path::file_name).is_some_and(|profile| profile == IMAGE_PROFILE)
}

fn link_at_entry(entry: &str) {
    let directory = std::env::var_os("OUT_DIR").expect("OUT_DIR is set by cargo for build scripts");
    println!("cargo:rustc-check-cfg=cfg(bare_metal)");
    if !is_image_build(Path::new(&directory)) {
        return;
    }
    println!("cargo:rustc-cfg=bare_metal");
    let script = write_script(Path::new(&directory), entry);
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
    for argument in ARGUMENTS {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

fn write_script(directory: &Path, entry: &str) -> PathBuf {
    let path = directory.join("link.ld");
    if let Err(error) = std::fs::write(&path, script(entry)) {
        panic!("{}: {error}", path.display());
    }
    path
}

/// The linker script of an image that is entered at the symbol `entry`.
pub fn script(entry: &str) -> String {
    format!("ENTRY({entry})\nhx_image_base = {IMAGE_BASE:#x};\n{LAYOUT}")
}

/// The precompiled `core` was built for unwinding. It refers to symbols that an image with `panic = "abort"`
/// never reaches. They are defined as 0, where nothing is mapped.
const LAYOUT: &str = "\
EXTERN(hx_memmove hx_memset hx_memcmp hx_strlen)
memcpy = hx_memmove;
memmove = hx_memmove;
memset = hx_memset;
memcmp = hx_memcmp;
bcmp = hx_memcmp;
strlen = hx_strlen;
PROVIDE(rust_eh_personality = 0);
PROVIDE(_Unwind_Resume = 0);

PHDRS
{
    rodata PT_LOAD FLAGS(4);
    text PT_LOAD FLAGS(5);
    data PT_LOAD FLAGS(6);
    note PT_NOTE FLAGS(4);
}

SECTIONS
{
    . = hx_image_base;
    hx_rodata_start = .;
    .note.Xen : { KEEP(*(.note.Xen)) } :rodata :note
    .multiboot2 : ALIGN(8) { KEEP(*(.multiboot2)) } :rodata
    .rodata : { *(.rodata .rodata.*) } :rodata
    . = ALIGN(4096);
    hx_rodata_end = .;

    hx_text_start = .;
    .text : { *(.text .text.*) } :text
    . = ALIGN(4096);
    hx_text_end = .;

    hx_data_start = .;
    .data : { *(.data.rel.ro .data.rel.ro.*) *(.got .got.*) *(.data .data.*) } :data
    hx_bss_start = .;
    .bss : { *(.bss .bss.*) *(COMMON) . = ALIGN(4096); hx_boot_start = .; *(.boot.bss) } :data
    hx_bss_end = .;
    . = ALIGN(4096);
    hx_data_end = .;

    /DISCARD/ : { *(.eh_frame .eh_frame_hdr .gcc_except_table .gcc_except_table.*) *(.note.GNU-stack) *(.comment) *(.note.gnu.*) }
}
";

#[cfg(test)]
mod tests {
    #[test]
    fn the_profile_is_read_from_the_output_directory() {
        let is_image = |path: &str| super::is_image_build(std::path::Path::new(path));
        assert!(is_image("/w/target/image/build/hello-12/out"));
        assert!(!is_image("/w/target/release/build/hello-12/out"));
        assert!(!is_image("/w/image/target/debug/build/hello-12/out"));
        assert!(!is_image("out"));
    }

    use super::*;

    #[test]
    fn images_are_made_in_their_profile_only() {
        assert!(is_image_build(Path::new("/target/image/build/hello-1234/out")));
        assert!(is_image_build(Path::new("/target/x86_64-unknown-linux-gnu/image/build/hello-1234/out")));
        assert!(!is_image_build(Path::new("/image/debug/build/image/out")));
        assert!(!is_image_build(Path::new("out")));
    }

    #[test]
    fn script_names_entry_and_base() {
        let script = script("first_instruction");
        assert!(script.starts_with("ENTRY(first_instruction)\nhx_image_base = 0x100000;\n"));
        assert!(script.contains("KEEP(*(.note.Xen))"));
    }

    #[test]
    fn script_is_written_where_it_is_told() {
        let directory = std::env::temp_dir().join(format!("unikernel-build-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = write_script(&directory, "start");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), script("start"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
