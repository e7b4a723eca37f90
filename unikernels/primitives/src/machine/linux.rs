//! Signals and protection on Linux, as C sees them.

use core::arch::asm;
use core::ptr::null_mut;
use std::io::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Pages of the area: as many as the papers protect at once.
pub const PAGES: usize = 100;

/// The clock that the unikernel reads too.
pub fn ticks() -> u64 {
    // SAFETY: reads a counter, which Linux allows.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The call that does least and is not answered without a crossing.
pub fn system_call() {
    // SAFETY: asks for a number.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// What the handler of a signal does with the instruction that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Answer {
    /// Goes on behind it: so many bytes.
    Pass,
    /// Allows the page, so that it is executed again.
    Allow,
    /// Protects the page that was allowed last and allows this one.
    Exchange,
}

/// What handlers do, and with how many bytes.
static ANSWER: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
/// Page that was allowed last.
static ALLOWED: AtomicUsize = AtomicUsize::new(0);
/// Signals answered.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// Signals answered since the last call.
pub fn take_answered() -> u64 {
    ANSWERED.swap(0, Ordering::Relaxed)
}

/// Has a signal answered.
pub fn answer(signal: i32, answer: Answer, bytes: u64) -> Result<(), Error> {
    ANSWER.store(answer as usize, Ordering::Relaxed);
    BYTES.store(bytes, Ordering::Relaxed);
    let function: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    // SAFETY: zeros are a value of the structure, and the function is one that `SA_SIGINFO` asks for.
    let status = unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = function as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(signal, &action, null_mut())
    };
    if status == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

extern "C" fn handle(_signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    ANSWERED.store(ANSWERED.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    // SAFETY: the kernel calls a handler that was installed with `SA_SIGINFO` with valid pointers to these.
    // The instructions that are passed over are those of this file. Pages are those of the area.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let answer = ANSWER.load(Ordering::Relaxed);
        if answer == Answer::Pass as usize {
            registers[libc::REG_RIP as usize] += BYTES.load(Ordering::Relaxed) as i64;
            return;
        }
        let page = (*info).si_addr() as usize & !(PAGE - 1);
        if answer == Answer::Exchange as usize {
            let before = ALLOWED.swap(page, Ordering::Relaxed);
            libc::mprotect(before as *mut _, PAGE, libc::PROT_READ);
        }
        libc::mprotect(page as *mut _, PAGE, libc::PROT_READ | libc::PROT_WRITE);
    }
}

/// Raises `SIGILL`: 2 bytes to pass.
pub fn illegal() {
    // SAFETY: the handler passes over the instruction. So in the others.
    unsafe { asm!("ud2") };
}

/// Raises `SIGTRAP`: nothing to pass.
pub fn breakpoint() {
    // SAFETY: as in `illegal`.
    unsafe { asm!("int3") };
}

/// Raises `SIGFPE`: 2 bytes to pass.
pub fn divide() {
    // SAFETY: as in `illegal`.
    unsafe { asm!(".byte 0xf7, 0xf1", in("ecx") 0, inout("eax") 1 => _, inout("edx") 0 => _) };
}

/// Raises `SIGSEGV`, which Linux sends for an overflow: nothing to pass.
pub fn overflow() {
    // SAFETY: as in `illegal`.
    unsafe { asm!("int 4") };
}

/// Raises `SIGBUS`, if the processor checks alignment (QEMU's emulator does not): 3 bytes to pass. The flag
/// that asks for it is set just before, and cleared afterwards: six instructions.
pub fn unaligned() {
    let words = [0u64; 2];
    // SAFETY: as in `illegal`, of `mov rax, [rdi]`. The flag is clear again afterwards.
    unsafe {
        asm!("pushfq", "or qword ptr [rsp], 1 << 18", "popfq", ".byte 0x48, 0x8b, 0x07",
            "pushfq", "and qword ptr [rsp], ~(1 << 18)", "popfq", in("rdi") (&raw const words as usize) + 1, out("rax") _);
    }
}

/// Pages of anonymous memory, written once.
pub struct Area(*mut u8);

impl Area {
    /// Maps them.
    pub fn new() -> Result<Area, Error> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, wherever there is room.
        let address = unsafe { libc::mmap(null_mut(), PAGE * PAGES, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let area = Area(address.cast());
        (0..PAGES).for_each(|page| area.write(page));
        Ok(area)
    }

    /// Address of a page.
    pub fn address(&self, page: usize) -> usize {
        self.0 as usize + page * PAGE
    }

    /// Writes to a page. It is a move of 3 bytes.
    #[inline(always)]
    pub fn write(&self, page: usize) {
        // SAFETY: `mov [rdi], rax`, into the area. If it faults, the handler answers.
        unsafe { asm!(".byte 0x48, 0x89, 0x07", in("rdi") self.address(page), in("rax") 1u64) };
    }

    /// Changes what is allowed on pages.
    pub fn protect(&self, first: usize, count: usize, write: bool) {
        let protection = if write { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: pages of the area, which nobody borrows.
        let status = unsafe { libc::mprotect(self.address(first) as *mut _, count * PAGE, protection) };
        assert!(status == 0, "mprotect: {}", Error::last_os_error());
    }

    /// Says which page is allowed, for [`Answer::Exchange`].
    pub fn set_allowed(&self, page: usize) {
        ALLOWED.store(self.address(page), Ordering::Relaxed);
    }
}
