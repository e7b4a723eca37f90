//! The calls of the exokernel, one function each.
//!
//! They do what [`Call`] says and nothing more. Errors are the kernel's [`Status`], never `Ok`. Functions
//! that could take memory away from Rust objects are `unsafe`. For frames with an owner see
//! [`crate::frames`]. Directly on a machine every call fails with [`Status::UnknownCall`].

use crate::platform;
use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};
use hyperexo_abi::capability::{Capability, MAX_FIELD, Rights};
use hyperexo_abi::hypercall::{Arguments, Call, Results, Status};
use hyperexo_abi::net::Filter;
use hyperexo_abi::offload::Offloads;

/// The instruction in use, a value of [`instruction`].
static INSTRUCTION: AtomicU8 = AtomicU8::new(instruction::NONE);

/// The instructions that call the exokernel.
mod instruction {
    /// There is no exokernel.
    pub const NONE: u8 = 0;
    /// `VMCALL`.
    pub const VMCALL: u8 = 1;
    /// `VMMCALL`.
    pub const VMMCALL: u8 = 2;
}

/// Chooses the instruction. Called if there is an exokernel.
pub(crate) fn choose_instruction(vmmcall: bool) {
    INSTRUCTION.store(if vmmcall { instruction::VMMCALL } else { instruction::VMCALL }, Ordering::Relaxed);
}

/// Any call, with any arguments: the status as a number, and the results.
///
/// # Safety
///
/// The call must not take, share or change memory that Rust objects live in.
pub unsafe fn raw(call: u64, arguments: Arguments) -> (u64, Results) {
    let [mut a, mut b, mut c, mut d, e, f] = arguments;
    let mut number = call;
    let instruction = INSTRUCTION.load(Ordering::Relaxed);
    if instruction == instruction::VMMCALL {
        // SAFETY: the kernel changes only the registers named; memory is the caller's promise.
        unsafe {
            asm!("vmmcall", inout("rax") number, inout("rdi") a, inout("rsi") b, inout("rdx") c, inout("r8") d,
                in("r9") e, in("r10") f, options(nostack));
        }
    } else if instruction == instruction::VMCALL {
        // SAFETY: as above.
        unsafe {
            asm!("vmcall", inout("rax") number, inout("rdi") a, inout("rsi") b, inout("rdx") c, inout("r8") d,
                in("r9") e, in("r10") f, options(nostack));
        }
    } else {
        number = Status::UnknownCall as u64;
    }
    (number, [a, b, c, d])
}

/// A call of the table. Its status becomes a `Result`; one that the table does not have counts as
/// [`Status::UnknownCall`].
///
/// # Safety
///
/// As [`raw`].
unsafe fn call(call: Call, arguments: Arguments) -> Result<Results, Status> {
    // SAFETY: by the caller's promise.
    let (status, results) = unsafe { raw(call as u64, arguments) };
    match Status::from_number(status) {
        Some(Status::Ok) => Ok(results),
        Some(status) => Err(status),
        None => Err(Status::UnknownCall),
    }
}

/// A call whose arguments start with a capability.
///
/// # Safety
///
/// As [`raw`].
unsafe fn call_with(
    number: Call,
    capability: &Capability,
    fourth: u64,
    fifth: u64,
) -> Result<Results, Status> {
    let [a, b, c, d] = capability.0;
    // SAFETY: by the caller's promise.
    unsafe { call(number, [a, b, c, d, fourth, fifth]) }
}

/// Does nothing. It shows what a crossing costs.
pub fn null() -> Result<(), Status> {
    // SAFETY: the call changes nothing.
    unsafe { call(Call::Null, [0; 6]) }.map(drop)
}

/// Writes `bytes` bytes at a physical address to the console, or the first of them, if its queue has no room
/// for all; returns how many.
pub fn console_write(physical: u64, bytes: u64) -> Result<u64, Status> {
    // SAFETY: the call reads memory only.
    unsafe { call(Call::ConsoleWrite, [physical, bytes, 0, 0, 0, 0]) }.map(|[taken, ..]| taken)
}

/// Ends this environment; directly on a machine, the unikernel.
pub fn exit(code: u32) -> ! {
    if INSTRUCTION.load(Ordering::Relaxed) == instruction::NONE {
        platform::current().exit(code)
    }
    loop {
        // SAFETY: the call does not return. If it did, asking again is all that is left.
        unsafe { raw(Call::Exit as u64, [u64::from(code), 0, 0, 0, 0, 0]) };
    }
}

/// Allocates `count` adjacent frames from `first` on (or anywhere, if that is [`hyperexo_abi::ANY`]). The
/// first is a multiple of `alignment`. They are not bound yet.
pub fn page_alloc(first: u64, count: u64, alignment: u64) -> Result<Capability, Status> {
    // SAFETY: nobody uses new frames, and nobody reaches them before they are bound.
    unsafe { call(Call::PageAlloc, [first, count, alignment, 0, 0, 0]) }.map(Capability)
}

/// Gives frames back.
///
/// # Safety
///
/// No Rust object may live in them.
pub unsafe fn page_free(capability: &Capability) -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call_with(Call::PageFree, capability, 0, 0) }.map(drop)
}

/// Binds frames with the given rights.
///
/// # Safety
///
/// Objects in these frames must bear the rights, and writes by other environments with a right to write.
pub unsafe fn page_bind(capability: &Capability, rights: Rights) -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call_with(Call::PageBind, capability, u64::from(rights.0), 0) }.map(drop)
}

/// Binds frames in the view with this number, so that code in the view reaches them.
///
/// # Safety
///
/// As for [`page_bind`].
pub unsafe fn page_bind_in(view: u64, capability: &Capability, rights: Rights) -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call_with(Call::PageBind, capability, u64::from(rights.0) | view << 8, 0) }.map(drop)
}

/// Ends the bindings of a run of frames.
///
/// # Safety
///
/// No Rust object may live in them.
pub unsafe fn page_unbind(first: u64, count: u64) -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call(Call::PageUnbind, [first, count, 0, 0, 0, 0]) }.map(drop)
}

/// Makes a narrower capability.
pub fn derive(capability: &Capability, first: u64, count: u64, rights: Rights) -> Result<Capability, Status> {
    if count > MAX_FIELD {
        return Err(Status::BadArgument);
    }
    // SAFETY: the call computes a capability and changes nothing.
    unsafe { call_with(Call::Derive, capability, first, count | u64::from(rights.0) << 56) }.map(Capability)
}

/// Makes all capabilities for the range invalid, ends bindings (of an extent all, else all but this
/// environment's), and returns a new capability. The device may still be busy with older requests: see
/// [`hyperexo_abi::hypercall::Call::Revoke`].
pub fn revoke(capability: &Capability) -> Result<Capability, Status> {
    // SAFETY: only others lose their bindings; this environment keeps its own.
    unsafe { call_with(Call::Revoke, capability, 0, 0) }.map(Capability)
}

/// Allocates `count` disk blocks from `first` on (or anywhere, if that is [`hyperexo_abi::ANY`]), at most
/// [`hyperexo_abi::hypercall::MAX_ALLOCATION_BLOCKS`].
pub fn disk_alloc(first: u64, count: u64) -> Result<Capability, Status> {
    // SAFETY: blocks are not memory.
    unsafe { call(Call::DiskAlloc, [first, count, 0, 0, 0, 0]) }.map(Capability)
}

/// Gives disk blocks back.
pub fn disk_free(capability: &Capability) -> Result<(), Status> {
    // SAFETY: blocks are not memory.
    unsafe { call_with(Call::DiskFree, capability, 0, 0) }.map(drop)
}

/// Binds an extent with the given rights. [`Status::Busy`] while the device has requests from before its
/// revocation.
pub fn disk_bind(capability: &Capability, rights: Rights) -> Result<(), Status> {
    // SAFETY: blocks are not memory.
    unsafe { call_with(Call::DiskBind, capability, u64::from(rights.0), 0) }.map(drop)
}

/// Ends the binding of an extent.
pub fn disk_unbind(first: u64, count: u64) -> Result<(), Status> {
    // SAFETY: blocks are not memory.
    unsafe { call(Call::DiskUnbind, [first, count, 0, 0, 0, 0]) }.map(drop)
}

/// Gives the kernel a ring in [`hyperexo_abi::ring::RING_FRAMES`] frames from `first`.
///
/// # Safety
///
/// The frames must hold a [`hyperexo_abi::ring::DiskRing`] and nothing else, for as long as the environment
/// lives.
pub unsafe fn ring_bind(first: u64) -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call(Call::RingBind, [first, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Says that the ring has new requests.
///
/// # Safety
///
/// The device writes frames that new read requests name. They must hold no Rust object, or one that only its
/// requester knows.
pub unsafe fn ring_kick() -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call(Call::RingKick, [0; 6]) }.map(drop)
}

/// Sets the one-shot timer to a value of the TSC. 0 cancels it.
pub fn timer_set(ticks: u64) -> Result<(), Status> {
    // SAFETY: only an upcall follows, and this library handles it.
    unsafe { call(Call::TimerSet, [ticks, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Gives up the rest of the slice to an environment, or to [`hyperexo_abi::ANY`].
pub fn yield_to(environment: u64) -> Result<(), Status> {
    // SAFETY: other environments run meanwhile, and their memory is not ours.
    unsafe { call(Call::Yield, [environment, 0, 0, 0, 0, 0]) }.map(drop)
}

/// A virtual CPU that the kernel has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewVcpu {
    /// Its index in this environment.
    pub index: u64,
    /// Frame of its [`hyperexo_abi::upcall::Doorbell`], bound read-write.
    pub doorbell_frame: u64,
}

/// Makes a virtual CPU on another core that the manifest allows. Its memory counts against the environment's
/// quota. Programs use [`crate::cores::start`].
///
/// # Safety
///
/// The code at `instruction` starts with that stack pointer, page table and argument (in `rdi`), with
/// interrupts disabled and no descriptor tables. It must not harm memory that Rust objects live in.
pub unsafe fn vcpu_start(
    core: u64,
    instruction: u64,
    stack: u64,
    root: u64,
    argument: u64,
) -> Result<NewVcpu, Status> {
    // SAFETY: by the caller's promise.
    unsafe { call(Call::VcpuStart, [core, instruction, stack, root, argument, 0]) }
        .map(|[index, doorbell_frame, ..]| NewVcpu { index, doorbell_frame })
}

/// Raises [`hyperexo_abi::upcall::Cause::Wake`] on a virtual CPU of this environment.
pub fn vcpu_wake(index: u64) -> Result<(), Status> {
    // SAFETY: only an upcall follows, and this library handles it.
    unsafe { call(Call::VcpuWake, [index, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Has nested faults of the calling virtual CPU delivered to it, with this frame for the report. `None` ends
/// that. Programs use [`super::faults`].
///
/// # Safety
///
/// The frame must hold a [`hyperexo_abi::fault::FaultPage`] and nothing else until this is called again, and
/// the trap of [`hyperexo_abi::fault::VECTOR`] must be handled.
pub unsafe fn fault_page(frame: Option<u64>) -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call(Call::FaultPage, [frame.unwrap_or(hyperexo_abi::ANY), 0, 0, 0, 0, 0]) }.map(drop)
}

/// Allocates a filter of packets.
pub fn filter_alloc(filter: &Filter) -> Result<Capability, Status> {
    // SAFETY: filters are not memory.
    unsafe { call(Call::FilterAlloc, filter.to_words()) }.map(Capability)
}

/// Gives a filter back.
pub fn filter_free(capability: &Capability) -> Result<(), Status> {
    // SAFETY: filters are not memory.
    unsafe { call_with(Call::FilterFree, capability, 0, 0) }.map(drop)
}

/// Binds a filter with the given rights to the rings of this environment.
pub fn filter_bind(capability: &Capability, rights: Rights) -> Result<(), Status> {
    // SAFETY: packets go into frames that the receive ring names. The caller of `net_ring_bind` has answered
    // for these.
    unsafe { call_with(Call::FilterBind, capability, u64::from(rights.0), 0) }.map(drop)
}

/// Ends the binding of the filter with this number.
pub fn filter_unbind(number: u64) -> Result<(), Status> {
    // SAFETY: filters are not memory.
    unsafe { call(Call::FilterUnbind, [number, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Gives the kernel rings of packets in [`hyperexo_abi::net::NET_RING_FRAMES`] frames from `first`. Returns
/// what is done for packets that are sent.
///
/// # Safety
///
/// The frames must hold [`hyperexo_abi::net::NetRings`] and nothing else, for as long as the environment
/// lives. Incoming packets are written into frames that the receive ring names. These must hold no Rust
/// object, or one that only its owner knows.
pub unsafe fn net_ring_bind(first: u64) -> Result<Offloads, Status> {
    // SAFETY: by the caller's promise.
    unsafe { call(Call::NetRingBind, [first, 0, 0, 0, 0, 0]) }.map(|[offloads, ..]| Offloads(offloads as u8))
}

/// Says that the transmit ring has packets.
///
/// # Safety
///
/// As for [`net_ring_bind`]: a packet may come back to this environment.
pub unsafe fn net_kick() -> Result<(), Status> {
    // SAFETY: by the caller's promise.
    unsafe { call(Call::NetKick, [0; 6]) }.map(drop)
}

/// A view in the caller's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewView {
    /// Its number there.
    pub number: u64,
    /// Whether `VMFUNC` changes to it.
    pub by_function: bool,
}

impl NewView {
    fn from_results([number, by_function, ..]: Results) -> NewView {
        NewView { number, by_function: by_function != 0 }
    }
}

/// Makes a view, with `tables` frames for its nested page table. Programs use [`super::view`].
pub fn view_create(tables: u64) -> Result<NewView, Status> {
    // SAFETY: the view has no bindings, and nobody is in it.
    unsafe { call(Call::ViewCreate, [tables, 0, 0, 0, 0, 0]) }.map(NewView::from_results)
}

/// Offers a view to another environment.
pub fn view_offer(view: u64, environment: u64) -> Result<(), Status> {
    // SAFETY: the other reaches only what was bound in the view, and whoever bound it promised that it may.
    unsafe { call(Call::ViewOffer, [view, environment, 0, 0, 0, 0]) }.map(drop)
}

/// Takes the offer of a view.
pub fn view_accept(environment: u64, view: u64) -> Result<NewView, Status> {
    // SAFETY: nobody is in it.
    unsafe { call(Call::ViewAccept, [environment, view, 0, 0, 0, 0]) }.map(NewView::from_results)
}

/// Ends the caller's part in a view. A virtual CPU of the caller that is in it gets an exception.
pub fn view_end(view: u64) -> Result<(), Status> {
    // SAFETY: only code in the view uses what is bound in the view alone.
    unsafe { call(Call::ViewEnd, [view, 0, 0, 0, 0, 0]) }.map(drop)
}
