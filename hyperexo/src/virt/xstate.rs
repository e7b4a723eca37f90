//! Extended processor state (AVX, AVX-512) of environments that share a core.
//!
//! The kernel is compiled for baseline SSE2 and can't touch more than that, so the rest stays in the
//! registers while an environment goes in and out of the kernel, and moves only when another environment gets
//! the core. SSE and x87 state is saved at every exit (see the backends).

use super::cpuid::XCR0_GUEST;
use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;

/// Reset value of XCR0: x87 only.
const XCR0_RESET: u64 = 1;
/// Bytes of the part of the area that is always there.
const LEGACY_AND_HEADER_BYTES: usize = 576;
/// x87 and SSE: not ours to move.
const LEGACY: u64 = 0b11;

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// Bits that a guest may set in XCR0; 0 if there is no XSAVE.
    pub mask: u64,
    bytes: usize,
}

impl Support {
    /// Turns XSAVE on for this core, if there is one.
    ///
    /// # Safety
    ///
    /// Ring 0.
    pub unsafe fn enable() -> Support {
        const OSXSAVE: u64 = 1 << 18;
        let cpuid = raw_cpuid::CpuId::new();
        let offered = cpuid.get_feature_info().is_some_and(|info| info.has_xsave());
        if !offered {
            return Support { mask: 0, bytes: 0 };
        }
        // SAFETY: the processor has XSAVE.
        unsafe {
            let cr4: u64;
            asm!("mov {}, cr4", out(reg) cr4);
            asm!("mov cr4, {}", in(reg) cr4 | OSXSAVE);
        }
        let leaf = raw_cpuid::cpuid!(0xd, 0);
        Support {
            mask: (u64::from(leaf.eax) | u64::from(leaf.edx) << 32) & XCR0_GUEST,
            // In the standard format each component has a fixed place: the end of the last one we use counts.
            bytes: (2..64)
                .filter(|component| XCR0_GUEST >> component & 1 != 0)
                .map(|component| raw_cpuid::cpuid!(0xd, component as u32))
                .map(|leaf| (leaf.eax + leaf.ebx) as usize)
                .fold(LEGACY_AND_HEADER_BYTES, usize::max),
        }
    }

    /// Whether a guest may give XCR0 this value (SDM vol. 1 §13.3).
    pub fn permits(&self, value: u64) -> bool {
        const SSE: u64 = 1 << 1;
        const AVX: u64 = 1 << 2;
        const AVX_512: u64 = 0b111 << 5;
        let avx = value & AVX == 0 || value & SSE != 0;
        let avx_512 = value & AVX_512 == 0 || value & AVX_512 == AVX_512 && value & AVX != 0;
        self.mask != 0 && value & 1 != 0 && value & !self.mask == 0 && avx && avx_512
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// The extended state of one environment while it does not have the core.
pub struct ExtendedState {
    area: Vec<Line>,
    xcr0: u64,
}

impl ExtendedState {
    /// The state after reset.
    pub fn new(support: &Support) -> ExtendedState {
        /// Offset of MXCSR, which XRSTOR loads along with AVX state, and its reset value.
        const MXCSR: usize = 24;
        const MXCSR_RESET: u32 = 0x1f80;
        let mut area = vec![Line([0; 64]); support.bytes.div_ceil(64)];
        if let Some(first) = area.first_mut() {
            first.0[MXCSR..MXCSR + 4].copy_from_slice(&MXCSR_RESET.to_le_bytes());
        }
        ExtendedState { area, xcr0: XCR0_RESET }
    }

    /// Sets the environment's XCR0, on the core too, which it has. The value must be one that
    /// [`Support::permits`].
    pub fn set_xcr0(&mut self, value: u64) {
        self.xcr0 = value;
        write_xcr0(value);
    }

    /// Takes the state from the core.
    pub fn save(&mut self, support: &Support) {
        if support.mask == 0 {
            return;
        }
        write_xcr0(support.mask);
        let (low, high) = halves(support.mask & !LEGACY);
        // SAFETY: the area is aligned to 64 bytes and as large as all supported components need.
        unsafe { asm!("xsave64 [{}]", in(reg) self.area.as_mut_ptr(), in("eax") low, in("edx") high) };
    }

    /// Gives the state to the core.
    pub fn load(&self, support: &Support) {
        // Old processors leave the addresses of the last x87 instruction in place when they load state
        // without a pending exception: the last environment's would show. SAFETY: the kernel has no x87 state
        // of its own, and the guest's is loaded at every entry.
        unsafe { asm!("fninit") };
        if support.mask == 0 {
            return;
        }
        write_xcr0(support.mask);
        let (low, high) = halves(support.mask & !LEGACY);
        // SAFETY: the area was written by `save`, or holds the state after reset. Only components that
        // the kernel's code does not use are loaded.
        unsafe { asm!("xrstor64 [{}]", in(reg) self.area.as_ptr(), in("eax") low, in("edx") high) };
        write_xcr0(self.xcr0);
    }
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
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

    #[test]
    fn xcr0_values_follow_the_rules() {
        let support = Support { mask: 0xe7, bytes: 0 };
        for good in [1, 3, 7, 0xe7] {
            assert!(support.permits(good), "{good:#x}");
        }
        for bad in [0, 2, 5, 0x27, 0xe3, 1 << 9 | 1, 1 << 63 | 1] {
            assert!(!support.permits(bad), "{bad:#x}");
        }
        assert!(!Support { mask: 0, bytes: 0 }.permits(1));
        assert!(!Support { mask: 3, bytes: 0 }.permits(7));
    }
}
