//! From the boot loader to 64-bit Rust: the entry points of an image and what the loader told.
//!
//! Two protocols lead here. *PVH* (an ELF note names a 32-bit entry) is what `qemu -kernel`, Firecracker and
//! Cloud Hypervisor speak; *Multiboot2* is what GRUB speaks, hence Bochs and bare metal. Both enter in 32-bit
//! protected mode without paging; [`crate::boot_entry!`] emits the headers and the code that maps the first 4
//! GiB by identity with 2 MiB pages (1 GiB pages are not offered everywhere), enters long mode and calls a
//! Rust function with the protocol and the address of the loader's information. [`BootInfo::read`] turns
//! either into one form.

mod multiboot2;
mod pvh;

/// Value of the `protocol` argument: entered by PVH.
pub const PROTOCOL_PVH: u64 = 1;
/// Value of the `protocol` argument: entered by Multiboot2.
pub const PROTOCOL_MULTIBOOT2: u64 = 2;

/// Bytes of the identity map that [`crate::boot_entry!`] sets up.
pub const IDENTITY_BYTES: u64 = 4 << 30;

/// Most regions that [`BootInfo::memory`] keeps.
pub const MAX_REGIONS: usize = 64;
/// Most modules that [`BootInfo::modules`] keeps.
pub const MAX_MODULES: usize = 8;

/// A range of physical memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Region {
    /// Whether the two have a byte in common.
    pub fn overlaps(&self, other: &Region) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A list of regions of fixed capacity: there is no allocator yet. What does not fit is dropped and counted.
#[derive(Clone, Copy, Debug)]
pub struct Regions<const N: usize> {
    items: [Region; N],
    len: usize,
    /// Regions that found no room.
    pub dropped: usize,
}

impl<const N: usize> Default for Regions<N> {
    fn default() -> Self {
        Regions { items: [Region::default(); N], len: 0, dropped: 0 }
    }
}

impl<const N: usize> Regions<N> {
    /// Adds a region; an empty one is ignored.
    pub fn push(&mut self, region: Region) {
        if region.end <= region.start {
            return;
        }
        match self.items.get_mut(self.len) {
            Some(slot) => {
                *slot = region;
                self.len += 1;
            }
            None => self.dropped += 1,
        }
    }

    /// The regions, in the order they were added.
    pub fn as_slice(&self) -> &[Region] {
        &self.items[..self.len]
    }
}

/// What the boot loader told.
#[derive(Clone, Copy, Debug)]
pub struct BootInfo {
    /// Usable RAM.
    pub memory: Regions<MAX_REGIONS>,
    /// Modules (initial RAM disks): for HyperExo the bundle, and after it perhaps a RAM disk.
    pub modules: Regions<MAX_MODULES>,
    /// Memory in which the loader's own information lies; not to be overwritten while this value is in use.
    pub loader: Regions<MAX_MODULES>,
    /// Command line; empty if there was none or it was not UTF-8.
    pub command_line: &'static str,
    /// Physical address of the ACPI root pointer, if the loader named it.
    pub rsdp: Option<u64>,
}

/// Why the loader's information is useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// Neither PVH nor Multiboot2 (the value is the protocol number).
    UnknownProtocol(u64),
    /// The PVH start information does not begin with its magic number (the value is what was there).
    BadPvhMagic(u32),
    /// The Multiboot2 information is malformed.
    BadMultiboot2,
    /// There is no memory map.
    NoMemoryMap,
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BootError::UnknownProtocol(number) => {
                write!(f, "booted by an unknown protocol ({number}); use PVH or Multiboot2")
            }
            BootError::BadPvhMagic(magic) => {
                write!(f, "the loader left no PVH start information ({magic:#x} is not its magic number)")
            }
            BootError::BadMultiboot2 => f.write_str("Multiboot2 information is malformed"),
            BootError::NoMemoryMap => f.write_str("the boot loader passed no memory map"),
        }
    }
}

impl BootInfo {
    /// Bytes of RAM at and above a physical address.
    pub fn bytes_beyond(&self, address: u64) -> u64 {
        self.memory.as_slice().iter().map(|region| region.end.saturating_sub(region.start.max(address))).sum()
    }

    /// Reads what the loader left at `information`.
    ///
    /// # Safety
    ///
    /// `protocol` and `information` must be what [`crate::boot_entry!`] passed, memory must be mapped by
    /// identity, and the loader's structures must not have been overwritten; they must stay so for as long as
    /// `command_line` is used.
    pub unsafe fn read(protocol: u64, information: u64) -> Result<BootInfo, BootError> {
        // SAFETY: passed on to the caller.
        unsafe {
            match protocol {
                PROTOCOL_PVH => pvh::read(information),
                PROTOCOL_MULTIBOOT2 => multiboot2::read(information),
                other => Err(BootError::UnknownProtocol(other)),
            }
        }
    }
}

/// Emits the entry points of an image: PVH note, Multiboot2 header, and the way into `extern "C" fn
/// main(protocol: u64, information: u64) -> !` in 64-bit mode. The argument is the symbol of that function, a
/// string.
///
/// `main` runs with interrupts disabled on a stack of 64 KiB, with the first 4 GiB mapped by identity
/// (writable and executable), `CR0.WP` and SSE on, `EFER.NXE` on, and no interrupt descriptor table. The
/// linker script must keep the sections `.note.Xen` in a `PT_NOTE` segment and `.multiboot2` within the first
/// 32 KiB of the file; `.boot.bss` holds page tables (`boot_tables`) and stack (`boot_stack` to
/// `boot_stack_end`), whole pages of zeros.
#[macro_export]
macro_rules! boot_entry {
    ($main:literal) => {
        core::arch::global_asm!(
            // PVH: note of owner "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), naming the 32-bit entry point.
            ".pushsection .note.Xen, \"a\", @note",
            ".balign 4",
            ".long 4, 4, 18",
            ".asciz \"Xen\"",
            ".long pvh_entry",
            ".popsection",
            // Multiboot2 §3.1: magic, architecture i386, length, checksum; tag 3 names the entry; tag 0 ends.
            ".pushsection .multiboot2, \"a\"",
            ".balign 8",
            "multiboot2_header:",
            ".long 0xe85250d6, 0, multiboot2_header_end - multiboot2_header",
            ".long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))",
            ".short 3, 0",
            ".long 12, multiboot2_entry, 0",
            ".short 0, 0",
            ".long 8",
            "multiboot2_header_end:",
            ".popsection",
            ".pushsection .text.boot, \"ax\"",
            ".code32",
            ".global pvh_entry",
            "pvh_entry:",
            "mov esi, 1",
            "jmp 2f",
            ".global multiboot2_entry",
            "multiboot2_entry:",
            "mov esi, 2",
            "2:",
            "cld",
            "mov esp, offset boot_stack_end",
            // Without 64-bit mode (bit 29) or NX (bit 20) nothing below would work, nor say so: the first
            // serial port does, and QEMU and Bochs end with the status of an error. Others stand still.
            "mov ebp, ebx",
            "mov eax, 0x80000001",
            "cpuid",
            "mov ebx, ebp",
            "and edx, 0x20100000",
            "cmp edx, 0x20100000",
            "je 5f",
            "mov esi, offset boot_too_old",
            "mov ecx, dword ptr [boot_too_old_bytes]",
            "mov dx, 0x3f8",
            "rep outsb",
            "mov eax, 2",
            "out 0xf4, eax",
            "hlt",
            "5:",
            // Page directories: 2048 entries of 2 MiB, present, writable, large.
            "mov edi, offset boot_tables + 0x2000",
            "mov eax, 0x83",
            "mov ecx, 2048",
            "3:",
            "mov dword ptr [edi], eax",
            "mov dword ptr [edi + 4], 0",
            "add edi, 8",
            "add eax, 0x200000",
            "dec ecx",
            "jnz 3b",
            // Page directory pointers: four directories; then the one entry of the top table.
            "mov edi, offset boot_tables + 0x1000",
            "mov eax, offset boot_tables + 0x2003",
            "mov ecx, 4",
            "4:",
            "mov dword ptr [edi], eax",
            "add edi, 8",
            "add eax, 0x1000",
            "dec ecx",
            "jnz 4b",
            "mov eax, offset boot_tables + 0x1003",
            "mov edi, offset boot_tables",
            "mov dword ptr [edi], eax",
            "mov cr3, edi",
            // CR4: PAE, OSFXSR, OSXMMEXCPT. EFER: LME, NXE. CR0: PG, WP, NE, ET, MP, PE; caches on.
            "mov eax, cr4",
            "or eax, 0x620",
            "mov cr4, eax",
            "mov ecx, 0xc0000080",
            "rdmsr",
            "or eax, 0x900",
            "wrmsr",
            "mov eax, 0x80010033",
            "mov cr0, eax",
            "mov eax, offset boot_gdt_pointer",
            "lgdt [eax]",
            "push 8",
            "mov eax, offset boot_long_mode",
            "push eax",
            "retf",
            ".code64",
            "boot_long_mode:",
            "xor eax, eax",
            "mov ds, eax",
            "mov es, eax",
            "mov ss, eax",
            "mov fs, eax",
            "mov gs, eax",
            "xor ebp, ebp",
            "mov edi, esi",
            "mov esi, ebx",
            concat!("call ", $main),
            "ud2",
            ".popsection",
            ".pushsection .rodata.boot, \"a\"",
            "boot_too_old: .ascii \"hyperexo: error: this processor lacks 64-bit mode or NX (QEMU: -cpu max)\\n\"",
            "boot_too_old_bytes: .long . - boot_too_old",
            ".balign 8",
            "boot_gdt:",
            ".quad 0, 0x00af9b000000ffff",
            "boot_gdt_pointer:",
            ".short 15",
            ".long boot_gdt",
            ".popsection",
            ".pushsection .boot.bss, \"aw\", @nobits",
            ".balign 4096",
            ".global boot_tables",
            "boot_tables:",
            ".skip 0x6000",
            ".global boot_stack",
            "boot_stack:",
            ".skip 0x10000",
            ".global boot_stack_end",
            "boot_stack_end:",
            ".popsection",
        );
    };
}
