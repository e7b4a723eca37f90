//! Extended processor state (x87, AVX, AVX-512, protection keys) of environments that share a core.
//!
//! The kernel is compiled for baseline SSE2 and touches nothing else, so the rest stays in the registers
//! while an environment goes in and out of the kernel. It moves only when another environment gets the core.
//! SSE state is saved at every exit (see the backends).
//!
//! An environment may leave an x87 exception pending. None of the instructions here takes it: `FNINIT`,
//! `FXSAVE`, `XSAVE` and their opposites do not wait for one, and the kernel has no other x87 or MMX
//! instruction.

use super::state::{CR4_OSXSAVE, CR4_PROTECTION_KEYS, XCR0_GUEST};
use core::arch::asm;
use hyperexo_hw::sse::MXCSR_RESET;

/// Reset value of XCR0: x87 only.
const XCR0_RESET: u64 = 1;
/// Lines of an area: up to the end of AVX-512 in the standard format, where each part has a fixed place.
const AREA_LINES: usize = 42;
/// The line of the area in which its header begins.
const HEADER_LINE: usize = 8;
/// x87 control word after reset.
const X87_CONTROL_RESET: u16 = 0x37f;
/// In the header's first byte: the area has x87 state.
const X87: u8 = 1 << 0;
/// SSE: not ours to move.
const SSE: u64 = 1 << 1;

/// Parts of the state that move: those that a guest may use, and those of MPX. QEMU's TCG lets a guest of SVM
/// write XCR0 without an exit (seen in 7.2), and MPX is what it offers besides.
const MOVED: u64 = XCR0_GUEST | 0b11 << 3;

/// What the processor offers; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// Parts of the state that move; 0 if there is no XSAVE.
    mask: u64,
    protection_keys: bool,
}

impl Support {
    /// Turns XSAVE and protection keys on for this core, if there are any. Pages of the kernel have no key.
    /// On SVM a guest may turn keys on behind the kernel's back, so that their register has to move.
    ///
    /// # Safety
    ///
    /// Ring 0.
    pub unsafe fn enable() -> Support {
        let cpuid = raw_cpuid::CpuId::new();
        let xsave = cpuid.get_feature_info().is_some_and(|info| info.has_xsave());
        let protection_keys = cpuid.get_extended_feature_info().is_some_and(|info| info.has_pku());
        let bits =
            if xsave { CR4_OSXSAVE } else { 0 } | if protection_keys { CR4_PROTECTION_KEYS } else { 0 };
        // SAFETY: the processor has what the bits turn on.
        unsafe {
            let cr4: u64;
            asm!("mov {}, cr4", out(reg) cr4);
            asm!("mov cr4, {}", in(reg) cr4 | bits);
        }
        if !xsave {
            return Support { mask: 0, protection_keys };
        }
        let leaf = raw_cpuid::cpuid!(0xd, 0);
        let offered = (u64::from(leaf.eax) | u64::from(leaf.edx) << 32) & MOVED;
        // The first two are in every area. A processor whose parts lie elsewhere does without those that do
        // not fit.
        let fits = |component: &u32| {
            let leaf = raw_cpuid::cpuid!(0xd, *component);
            leaf.eax as usize + leaf.ebx as usize <= AREA_LINES * 64
        };
        let fitting = (2..64).filter(|part| offered >> part & 1 != 0).filter(fits);
        Support { mask: fitting.fold(offered & 0b11, |mask, part| mask | 1 << part), protection_keys }
    }

    /// Whether a guest may give XCR0 this value (SDM vol. 1 §13.3).
    pub fn permits(&self, value: u64) -> bool {
        const SSE: u64 = 1 << 1;
        const AVX: u64 = 1 << 2;
        const AVX_512: u64 = 0b111 << 5;
        let avx = value & AVX == 0 || value & SSE != 0;
        let avx_512 = value & AVX_512 == 0 || value & AVX_512 == AVX_512 && value & AVX != 0;
        self.mask != 0 && value & 1 != 0 && value & !(self.mask & XCR0_GUEST) == 0 && avx && avx_512
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// The extended state of one environment while it does not have the core.
pub struct Xstate {
    area: [Line; AREA_LINES],
    xcr0: u64,
    protection_keys: u32,
}

impl Xstate {
    /// The state after reset.
    pub fn new() -> Xstate {
        /// Offset of MXCSR, which XRSTOR loads along with AVX state.
        const MXCSR: usize = 24;
        let mut area = [Line([0; 64]); AREA_LINES];
        area[0].0[..2].copy_from_slice(&X87_CONTROL_RESET.to_le_bytes());
        area[0].0[MXCSR..MXCSR + 4].copy_from_slice(&MXCSR_RESET.to_le_bytes());
        Xstate { area, xcr0: XCR0_RESET, protection_keys: 0 }
    }

    /// Sets the environment's XCR0, on the core too, which it has. Returns whether it may have the value.
    pub fn set_xcr0(&mut self, value: u64, support: &Support) -> bool {
        let permitted = support.permits(value);
        if permitted {
            self.xcr0 = value;
            write_xcr0(value);
        }
        permitted
    }

    /// Takes the state from the core.
    pub fn save(&mut self, support: &Support) {
        if support.protection_keys {
            self.protection_keys = read_protection_keys();
        }
        let area = self.area.as_mut_ptr();
        if support.mask == 0 {
            // SAFETY: the area is aligned to 64 bytes and never smaller than this needs. The kernel's SSE
            // state comes along, and stays in the kernel's memory.
            unsafe { asm!("fxsave64 [{}]", in(reg) area) };
        } else {
            // See `MOVED`: the guest may have changed it.
            let xcr0 = read_xcr0();
            if support.permits(xcr0) {
                self.xcr0 = xcr0;
            }
            write_xcr0(support.mask);
            let (low, high) = halves(support.mask & !SSE);
            // SAFETY: the area is aligned to 64 bytes and as large as all supported components need.
            unsafe { asm!("xsave64 [{}]", in(reg) area, in("eax") low, in("edx") high) };
        }
        self.note_x87();
    }

    /// Notes in the header whether the area has x87 state, or x87 is as after reset. A processor may note the
    /// latter by itself. QEMU's TCG never does, and there no core may load x87 state without need
    /// ([`hyperexo_hw::sse`]).
    fn note_x87(&mut self) {
        let [first, second, third, ..] = &self.area;
        // Control word; status, tags, last instruction and operand; then MXCSR and its mask; the registers.
        let (control, rest) = first.0.split_at(2);
        let registers = first.0[32..].iter().chain(&second.0).chain(&third.0[..32]);
        let is_reset = *control == X87_CONTROL_RESET.to_le_bytes()
            && rest[..22].iter().chain(registers).all(|byte| *byte == 0);
        let header = &mut self.area[HEADER_LINE].0[0];
        *header = *header & !X87 | if is_reset { 0 } else { X87 };
    }

    /// Whether the area has x87 state.
    fn has_x87(&self) -> bool {
        self.area[HEADER_LINE].0[0] & X87 != 0
    }

    /// Gives the state to the core.
    pub fn load(&self, support: &Support) {
        if support.protection_keys {
            write_protection_keys(self.protection_keys);
        }
        // Old processors leave the addresses of the last x87 instruction in place when they load state
        // without a pending exception: those of the last environment would show.
        // SAFETY: the kernel has no x87 state of its own, and the environment's is loaded below.
        unsafe { asm!("fninit") };
        if support.mask == 0 {
            if self.has_x87() {
                // SAFETY: the area was written by `save`, MXCSR included, which is the kernel's. The compiler
                // is told of the registers that the kernel's code uses.
                unsafe { asm!("fxrstor64 [{}]", in(reg) self.area.as_ptr(), clobber_abi("sysv64")) };
            } else {
                clear_x87();
            }
            return;
        }
        write_xcr0(support.mask);
        let (low, high) = halves(support.mask & !SSE);
        // SAFETY: the area was written by `save`, or holds the state after reset. Only components that
        // the kernel's code does not use are loaded.
        unsafe { asm!("xrstor64 [{}]", in(reg) self.area.as_ptr(), in("eax") low, in("edx") high) };
        write_xcr0(self.xcr0);
    }
}

impl Default for Xstate {
    fn default() -> Self {
        Xstate::new()
    }
}

/// Puts x87 into its state after reset, where `FNINIT` has just done so but for the registers' contents.
fn clear_x87() {
    // SAFETY: the kernel has no x87 state of its own. All exceptions are masked and none is pending.
    unsafe { asm!(".rept 8", "fldz", ".endr", "fninit") };
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

fn read_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: only called where XSAVE is on; reads a register.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(low) | u64::from(high) << 32
}

fn read_protection_keys() -> u32 {
    let keys;
    // SAFETY: only called where protection keys are on (`Support`); reads a register.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") keys, out("edx") _, options(nomem, nostack)) };
    keys
}

fn write_protection_keys(keys: u32) {
    // SAFETY: only called where protection keys are on (`Support`). They say what pages of users allow, and
    // the kernel has no such pages.
    unsafe { asm!("wrpkru", in("ecx") 0, in("eax") keys, in("edx") 0, options(nostack)) };
}

fn write_xcr0(value: u64) {
    let (low, high) = halves(value);
    // SAFETY: only called where XSAVE is on, with values that `Support::permits` or the supported mask
    // itself.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without XSAVE: runs on every processor, as does the test's host.
    const LEGACY: Support = Support { mask: 0, protection_keys: false };

    /// x87 as `FXSAVE` shows it, all but MXCSR and SSE state.
    fn x87() -> Vec<u8> {
        let mut state = Xstate::new();
        // SAFETY: the area is aligned and large enough.
        unsafe { asm!("fxsave64 [{}]", in(reg) state.area.as_mut_ptr()) };
        let bytes: Vec<u8> = state.area.iter().flat_map(|line| line.0).collect();
        [&bytes[..24], &bytes[32..160]].concat()
    }

    #[test]
    fn x87_is_kept_and_shows_nothing_to_the_next() {
        let (mut first, second) = (Xstate::new(), Xstate::new());
        first.load(&LEGACY);
        let reset = x87();
        // A division by zero that is pending, unmasked, and values in the registers.
        let control: u16 = 0x37b;
        // SAFETY: no instruction follows that would take the exception, until `load`.
        unsafe { asm!("fninit", "fldcw [{}]", "fldpi", "fld1", "fldz", "fdivp", in(reg) &raw const control) };
        let used = x87();
        first.save(&LEGACY);
        assert!(first.has_x87());
        second.load(&LEGACY);
        assert_eq!(x87(), reset, "nothing of the first is left");
        first.load(&LEGACY);
        let again = x87();
        // Pointers and opcode (bytes 6 to 23) are zero on processors that keep them for exceptions only.
        assert_eq!((&again[..5], &again[24..]), (&used[..5], &used[24..]));
        second.load(&LEGACY);
    }

    #[test]
    fn x87_after_reset_is_noted() {
        let mut state = Xstate::new();
        state.load(&LEGACY);
        state.save(&LEGACY);
        assert!(!state.has_x87());
        // SAFETY: takes one register and gives it back: its contents stay.
        unsafe { asm!("fldpi", "fstp st(0)") };
        state.save(&LEGACY);
        assert!(state.has_x87(), "an empty register can be read, too");
        Xstate::new().load(&LEGACY);
    }

    #[test]
    fn xcr0_values_follow_the_rules() {
        let offering = |mask| Support { mask, protection_keys: false };
        let support = offering(0xff);
        for good in [1, 3, 7, 0xe7] {
            assert!(support.permits(good), "{good:#x}");
        }
        for bad in [0, 2, 5, 0x1b, 0x27, 0xe3, 1 << 9 | 1, 1 << 63 | 1] {
            assert!(!support.permits(bad), "{bad:#x}");
        }
        assert!(!offering(0).permits(1));
        assert!(!offering(3).permits(7));
    }
}
