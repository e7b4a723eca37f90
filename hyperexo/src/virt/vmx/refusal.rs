//! What is said of an entry that the processor refuses. There is nothing to be done about it: the guest is
//! ended.
#![forbid(unsafe_code)]

use super::switch::Entered;
use super::vmcs::{self, read};
use crate::log;
use x86::vmx::vmcs::{control, guest, ro};

/// Logs the state that the processor refused to enter with. It does not say which of its checks failed (SDM
/// vol. 3 §27.3.1).
#[cold]
#[inline(never)]
pub fn log_failed_entry(basic: u32) {
    log!(
        "vmx: entry failed: reason {basic}, qualification {:#x}, cr0 {:#x}, cr3 {:#x}, cr4 {:#x}, efer {:#x}, \
         rflags {:#x}, rip {:#x}, event {:#x}, blocking {:#x}, activity {:#x}, cs {:#x}, tr {:#x}",
        read(ro::EXIT_QUALIFICATION),
        read(guest::CR0),
        read(guest::CR3),
        read(guest::CR4),
        read(guest::IA32_EFER_FULL),
        read(guest::RFLAGS),
        read(guest::RIP),
        read(control::VMENTRY_INTERRUPTION_INFO_FIELD),
        read(guest::INTERRUPTIBILITY_STATE),
        read(guest::ACTIVITY_STATE),
        read(guest::CS_ACCESS_RIGHTS),
        read(guest::TR_ACCESS_RIGHTS),
    );
}

/// Says why the processor did not even try.
#[cold]
#[inline(never)]
pub fn log_refused(refused: Entered) {
    match refused {
        Entered::NoVmcs => log!("vmx: entry without a current VMCS"),
        _ => {
            let error = read(ro::VM_INSTRUCTION_ERROR) as u32;
            log!("vmx: {} (error {error})", vmcs::instruction_error(error));
        }
    }
}
