//! Call numbers, registers and status codes.
//!
//! A hypercall is the instruction `VMCALL` (Intel) or `VMMCALL` (AMD), without prefixes:
//! [`crate::start::StartInfo::hypercall`] says which. Registers are the message, and the kernel touches no
//! others:
//!
//! | register | in | out |
//! |---|---|---|
//! | `rax` | [`Call`] | [`Status`], 0 on success |
//! | `rdi rsi rdx r8` | arguments 0–3 (a capability takes all four) | results 0–3 |
//! | `r9 r10` | arguments 4 and 5 | unchanged |
//!
//! The kernel does not look at the guest's privilege level: what a libOS runs in ring 3 has the libOS's
//! authority.

/// Arguments of a hypercall, in the order `rdi rsi rdx r8 r9 r10`.
pub type Arguments = [u64; 6];
/// Results of a hypercall, in the order `rdi rsi rdx r8`.
pub type Results = [u64; 4];

/// CPUID leaf at which a guest finds [`CPUID_SIGNATURE`] in `ebx ecx edx`.
pub const CPUID_LEAF: u32 = 0x4000_0000;
/// "HyperExo 0.1", the signature at [`CPUID_LEAF`].
pub const CPUID_SIGNATURE: [u8; 12] = *b"HyperExo 0.1";

/// What an environment can ask of the exokernel. Each is an ownership check and a table update, nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Call {
    /// Does nothing: what a crossing costs.
    Null = 0,
    /// Queues bytes for the console; the call never waits for the serial port. 0: physical address, 1:
    /// length, at most [`CONSOLE_MAX_BYTES`]. The bytes may span adjacent frames, all of which the caller
    /// must have bound readable. Results: the number of bytes taken. It is smaller than the length if the
    /// caller's queue is full; if nothing was taken for that reason, the status is [`Status::Busy`], and the
    /// caller tries again later.
    ConsoleWrite = 1,
    /// Ends the caller. 0: exit code. Does not return.
    Exit = 2,
    /// Allocates frames, at most [`MAX_ALLOCATION_FRAMES`] in one call. 0: first frame or [`crate::ANY`], 1:
    /// count, 2: alignment in frames (a power of two, 1 = none). Results: a page capability with all rights.
    /// The frames hold zeros and are not yet bound.
    PageAlloc = 3,
    /// Gives frames back. All bindings of them end, whoever has them. [`Status::Busy`] while a device uses
    /// one. If another environment has the frames bound, call [`Call::Revoke`] first: it could keep the
    /// device busy with them. 0–3: page capability with [`Rights::GRANT`].
    ///
    /// [`Rights::GRANT`]: crate::capability::Rights::GRANT
    PageFree = 4,
    /// Binds frames: enters them in the caller's nested page table, or in that of a view. 0–3: page
    /// capability, 4: rights (bits 0–7: of [`crate::capability::Rights`], a subset of the capability's), bits
    /// 8 and up: number of the view, 0 = none. The new entry replaces an old one. In a view that somebody
    /// else has made, [`Status::InUse`] if there is an entry already for a frame that the caller does not
    /// own.
    PageBind = 5,
    /// Ends the caller's bindings of a run of frames. 0: first frame, 1: count, 2: number of the view, 0 =
    /// none. [`Status::Busy`] while a device uses one. In a view that somebody else has made, only the
    /// caller's own frames can be unbound.
    PageUnbind = 6,
    /// Makes a narrower capability. 0–3: capability, 4: first, 5: count in bits 0–47, rights in bits 56–63.
    /// Results: the new capability. Works for pages, extents and filters.
    Derive = 7,
    /// Makes every capability for the range worthless, and ends bindings: of frames and filters all but the
    /// caller's, of an extent all. 0–3: capability with [`crate::capability::Rights::GRANT`]; for an extent
    /// or a filter it must name the whole of it. Results: a fresh capability.
    ///
    /// The device finishes requests that it has already. It may still write to frames as long as
    /// [`Call::PageFree`] or [`Call::PageUnbind`] answers [`Status::Busy`], and to blocks as long as
    /// [`Call::DiskBind`] with the fresh capability, or [`Call::DiskFree`], does.
    Revoke = 8,
    /// Allocates disk blocks, within the quota of the manifest. 0: first block or [`crate::ANY`], 1: count,
    /// at most [`MAX_ALLOCATION_BLOCKS`]. Results: an extent capability. The blocks read as zeros until
    /// written. The kernel keeps one bit a block for that, in frames on the caller's account: one for each
    /// [`MAP_FRAME_BLOCKS`].
    DiskAlloc = 9,
    /// Gives disk blocks back. 0–3: extent capability with [`crate::capability::Rights::GRANT`].
    /// [`Status::Busy`] while a request in flight names one.
    DiskFree = 10,
    /// Binds an extent, so that ring requests of the caller may name its blocks. 0–3: extent capability, 4:
    /// rights. [`Status::Busy`] after [`Call::Revoke`], while the device has requests from before it.
    DiskBind = 11,
    /// Ends the caller's binding of the extent that starts at a block. 0: first block, 1: count.
    DiskUnbind = 12,
    /// Gives the kernel a [`crate::ring::DiskRing`]. 0: first of [`crate::ring::RING_FRAMES`] adjacent
    /// frames, bound read-write by the caller. One per environment; the frames can't be unbound until it
    /// ends.
    RingBind = 13,
    /// Says that the ring has new requests.
    RingKick = 14,
    /// Sets the one-shot timer. 0: TSC value at which [`crate::upcall::Cause::Timer`] is raised; 0 cancels.
    TimerSet = 15,
    /// Gives up the rest of the slice. 0: environment to run next, or [`crate::ANY`].
    Yield = 16,
    /// Gives the caller a virtual CPU on another core. 0: core, 1: first instruction, 2: stack pointer, 3:
    /// physical address of the top page table, 4: what it finds in `rdi`. It starts like the first one
    /// ([`crate::start`]) with `rsi` = 0. Results: its index, and the frame of its
    /// [`crate::upcall::Doorbell`], bound read-write. [`Status::InUse`] if the caller has one on that core,
    /// [`Status::NoRight`] if its manifest does not name the core ([`crate::bundle::Entry::cores`]). Its
    /// frames are on the caller's account; [`Status::QuotaExceeded`] if they don't fit there.
    VcpuStart = 17,
    /// Raises [`crate::upcall::Cause::Wake`] on a virtual CPU of the caller. 0: its index. A core is
    /// interrupted only if the virtual CPU waits, or runs and has not been called yet.
    VcpuWake = 18,
    /// Has nested faults of the calling virtual CPU delivered to it as exceptions ([`crate::fault`]) instead
    /// of ending the environment. 0: frame of a [`crate::fault::FaultPage`], the caller's own and bound
    /// read-write, or [`crate::ANY`] to end this again. The frame can be neither unbound nor freed meanwhile.
    FaultPage = 19,
    /// Allocates a filter of packets. 0–5: a [`crate::net::Filter`] as words. Results: a filter capability.
    /// Refused as in use when it overlaps a filter of another environment, or is one of the caller's own.
    FilterAlloc = 20,
    /// Gives a filter back. All bindings of it end, whoever has them. 0–3: filter capability with
    /// [`crate::capability::Rights::GRANT`].
    FilterFree = 21,
    /// Binds a filter to the caller's rings. 0–3: filter capability, 4: rights. To read: packets that match
    /// come to the caller's receive ring; one environment at a time. To write: the caller may send packets to
    /// which an answer would match.
    FilterBind = 22,
    /// Ends the caller's binding of a filter. 0: its number.
    FilterUnbind = 23,
    /// Gives the kernel [`crate::net::NetRings`]. 0: first of [`crate::net::NET_RING_FRAMES`] adjacent
    /// frames, bound read-write by the caller and owned by it. One pair per environment; the frames can't be
    /// unbound until it ends. Results: 0: the work that is done for packets that are sent
    /// ([`crate::offload::Offloads`]).
    NetRingBind = 24,
    /// Says that the ring of packets to be sent has some.
    NetKick = 25,
    /// Makes a view: a nested page table besides the caller's own, in which nothing is bound yet
    /// ([`Call::ViewSwitch`]). 0: frames for its tables, which the caller pays for at once. Results: its
    /// number in the caller's list; 1 if the instruction `VMFUNC` switches to it as well (function 0 in
    /// `eax`, number in `ecx`; SDM vol. 3 §26.5.6.3), without an exit. `rax` stays 0 then, and is
    /// [`Status::NoSuch`] if the list has no such number.
    ViewCreate = 26,
    /// Offers a view that the caller has made to another environment. 0: its number, 1: the environment.
    /// Whoever takes the offer can run with the view's memory in place of its own, and bind frames of its own
    /// in it.
    ViewOffer = 27,
    /// Takes an offer. 0: the environment that made it, 1: the view's number there. Results: as
    /// [`Call::ViewCreate`], with the number in the caller's list.
    ViewAccept = 28,
    /// Ends what the caller has of a view. 0: its number in the caller's list. If the caller made it, it ends
    /// for all; else for the caller, whose own frames are unbound from it. A virtual CPU that is in the view
    /// at that time finds itself outside, with a general-protection exception.
    ViewEnd = 29,
    /// Lets the calling virtual CPU go on in a view: from the next instruction on, the view's bindings count
    /// and no others. 0: number in the caller's list; 0 is its own table. Registers, CR3 included, stay as
    /// they are.
    ViewSwitch = 30,
}

impl Call {
    /// All calls, in the order of their numbers.
    pub const ALL: [Call; 31] = [
        Call::Null,
        Call::ConsoleWrite,
        Call::Exit,
        Call::PageAlloc,
        Call::PageFree,
        Call::PageBind,
        Call::PageUnbind,
        Call::Derive,
        Call::Revoke,
        Call::DiskAlloc,
        Call::DiskFree,
        Call::DiskBind,
        Call::DiskUnbind,
        Call::RingBind,
        Call::RingKick,
        Call::TimerSet,
        Call::Yield,
        Call::VcpuStart,
        Call::VcpuWake,
        Call::FaultPage,
        Call::FilterAlloc,
        Call::FilterFree,
        Call::FilterBind,
        Call::FilterUnbind,
        Call::NetRingBind,
        Call::NetKick,
        Call::ViewCreate,
        Call::ViewOffer,
        Call::ViewAccept,
        Call::ViewEnd,
        Call::ViewSwitch,
    ];

    /// The call with this number, if there is one.
    pub fn from_number(number: u64) -> Option<Call> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// Most frames that one [`Call::PageAlloc`] gives: clearing them takes time that nobody else has.
pub const MAX_ALLOCATION_FRAMES: u64 = 4096;

/// Disk blocks of which a frame can say whether they have been written.
pub const MAP_FRAME_BLOCKS: u64 = 8 * crate::FRAME_BYTES as u64;
/// Most frames that say so for one extent.
pub const MAX_EXTENT_MAP_FRAMES: usize = 16;
/// Most blocks that one [`Call::DiskAlloc`] gives: 2 GiB.
pub const MAX_ALLOCATION_BLOCKS: u64 = MAP_FRAME_BLOCKS * MAX_EXTENT_MAP_FRAMES as u64;

/// Entries of an environment's list of views, entry 0 included, which is its own table.
pub const VIEWS: usize = 8;

/// Longest text that one [`Call::ConsoleWrite`] takes.
pub const CONSOLE_MAX_BYTES: u64 = 4096;

/// The outcome of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such call.
    UnknownCall = 1,
    /// An argument is out of its range.
    BadArgument = 2,
    /// The capability's MAC is wrong: it was forged or damaged.
    ForgedCapability = 3,
    /// The capability was good once: its range has been freed or revoked since.
    StaleCapability = 4,
    /// The capability does not carry the right, or is for another kind of resource; or the manifest does not
    /// allow it.
    NoRight = 5,
    /// The caller has not bound that frame or block, or not with the right that is needed.
    NotBound = 6,
    /// That frame or block belongs to somebody.
    InUse = 7,
    /// There is no such frame or block.
    NoSuch = 8,
    /// The environment may not own more.
    QuotaExceeded = 9,
    /// Nobody's frames or blocks suffice.
    Exhausted = 10,
    /// A request in flight uses it, or a queue is full: try again later.
    Busy = 11,
    /// The machine has no such device.
    NoDevice = 12,
}

impl Status {
    /// All statuses, in the order of their numbers.
    pub const ALL: [Status; 13] = [
        Status::Ok,
        Status::UnknownCall,
        Status::BadArgument,
        Status::ForgedCapability,
        Status::StaleCapability,
        Status::NoRight,
        Status::NotBound,
        Status::InUse,
        Status::NoSuch,
        Status::QuotaExceeded,
        Status::Exhausted,
        Status::Busy,
        Status::NoDevice,
    ];

    /// The status with this number, if there is one.
    pub fn from_number(number: u64) -> Option<Status> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Status::Ok => "done",
            Status::UnknownCall => "no such hypercall",
            Status::BadArgument => "argument out of range",
            Status::ForgedCapability => "capability is forged",
            Status::StaleCapability => "capability has been revoked",
            Status::NoRight => "capability does not carry the right",
            Status::NotBound => "not bound by this environment",
            Status::InUse => "belongs to another environment",
            Status::NoSuch => "there is no such frame or block",
            Status::QuotaExceeded => "quota of the environment exceeded",
            Status::Exhausted => "none left",
            Status::Busy => "in use by a request in flight",
            Status::NoDevice => "no such device",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_positions() {
        for (number, call) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as u64, number as u64);
        }
        for (number, status) in Status::ALL.iter().enumerate() {
            assert_eq!(*status as u64, number as u64);
        }
        assert_eq!(Call::from_number(Call::ALL.len() as u64), None);
        assert_eq!(Status::from_number(u64::MAX), None);
    }
}
