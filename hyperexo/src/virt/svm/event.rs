//! Events in coded form: `EVENTINJ`, which an entry delivers, and `EXITINTINFO`, whose delivery an exit
//! interrupted (APM vol. 2 §15.7.2, §15.20).
#![forbid(unsafe_code)]

use crate::virt::vcpu::Exception;
use hyperexo_abi::fault;

/// There is an event.
pub const VALID: u64 = 1 << 31;
const WITH_ERROR_CODE: u64 = 1 << 11;
const KIND_SHIFT: u32 = 8;
const INTERRUPT: u64 = 0;
const EXCEPTION: u64 = 3;
const SOFTWARE: u64 = 4;

/// What is to be done about an event whose delivery an exit interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Nothing: there was none, or executing its instruction again raises it again.
    No,
    /// The next entry delivers it.
    Inject(u64),
    /// The processor is asked once more to interrupt the guest with this vector.
    Request(u8),
}

/// What becomes of the event in `EXITINTINFO`.
///
/// An upcall is requested again and not injected. The guest is as it was before the delivery, so its flag
/// still allows it. QEMU's TCG can deliver an injected interrupt twice: it leaves its note of the event (seen
/// in 7.2).
pub fn again(information: u64) -> Again {
    let (vector, kind) = (information as u8, information >> KIND_SHIFT & 7);
    match kind {
        _ if information & VALID == 0 => Again::No,
        INTERRUPT if vector != fault::VECTOR => Again::Request(vector),
        SOFTWARE => Again::No,
        EXCEPTION if matches!(vector, 3 | 4) => Again::No,
        _ => Again::Inject(information),
    }
}

/// The event that raises an exception. `emulated`: on QEMU's TCG.
///
/// #VE is not one of AMD's exceptions, and a processor may refuse it as such. As an interrupt it is delivered
/// alike, whatever the guest's flag says. TCG takes every vector below 31 as an exception, and may deliver an
/// interrupt twice ([`again`]).
pub fn exception(exception: Exception, emulated: bool) -> u64 {
    const VALID_EXCEPTION: u64 = VALID | EXCEPTION << KIND_SHIFT;
    match exception {
        Exception::InvalidOpcode => VALID_EXCEPTION | 6,
        Exception::GeneralProtection => VALID_EXCEPTION | WITH_ERROR_CODE | 13,
        Exception::AlignmentCheck => VALID_EXCEPTION | WITH_ERROR_CODE | 17,
        Exception::Virtualization if emulated => VALID_EXCEPTION | u64::from(fault::VECTOR),
        Exception::Virtualization => VALID | INTERRUPT << KIND_SHIFT | u64::from(fault::VECTOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upcall_is_requested_again_and_never_injected() {
        assert_eq!(again(VALID | 0x40), Again::Request(0x40));
        assert_eq!(again(0x40), Again::No, "not valid");
    }

    #[test]
    fn exceptions_come_again_unless_their_instruction_raises_them() {
        let page_fault = 0x2_8000_0b0e;
        assert_eq!(again(page_fault), Again::Inject(page_fault));
        for software in [0x8000_0303, 0x8000_0304, 0x8000_0450] {
            assert_eq!(again(software), Again::No, "{software:#x}");
        }
        for emulated in [false, true] {
            let virtualization = exception(Exception::Virtualization, emulated);
            assert_eq!(again(virtualization), Again::Inject(virtualization), "{emulated}");
        }
    }

    #[test]
    fn exceptions_are_coded_as_the_manual_says() {
        assert_eq!(exception(Exception::InvalidOpcode, false), 0x8000_0306);
        assert_eq!(exception(Exception::GeneralProtection, false), 0x8000_0b0d);
        assert_eq!(exception(Exception::Virtualization, false), 0x8000_0014);
        assert_eq!(exception(Exception::Virtualization, true), 0x8000_0314);
    }
}
