//! Steps of a random run, made of words.

use super::World;
use crate::machine::id::VcpuId;
use crate::model::guest::submission;
use hyperexo_abi::ANY;
use hyperexo_abi::capability::{Capability, Resource, Rights};
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::net::{Destination, Filter};
use hyperexo_abi::ring::{Operation, Submission};

/// What a step is made of.
#[derive(Clone, Copy, Debug)]
pub struct Word(pub [u32; 4]);

impl Word {
    /// Who does something.
    pub fn who(&self) -> u16 {
        self.0[0] as u16
    }

    /// On which of its virtual CPUs.
    pub fn index(&self) -> usize {
        (self.0[0] >> 16) as usize & 0xff
    }

    /// Whether it is the devices' turn.
    pub fn is_device(&self) -> bool {
        self.0[0] >> 24 < 20
    }

    /// Whether others come in between before the call is over.
    pub fn is_left_underway(&self) -> bool {
        self.0[0] >> 24 & 1 == 0
    }
}

/// A call with its arguments.
#[derive(Clone, Debug)]
pub enum Op {
    Allocate(u64, u64, u64),
    Free(Capability),
    Bind(Capability, u64),
    Unbind(u64, u64, u64),
    Derive(Capability, u64, u64, Rights),
    Revoke(Capability),
    ViewCreate(u64),
    ViewOffer(u64, u64),
    ViewAccept(u16, u64),
    ViewEnd(u64),
    VcpuStart(u64),
    RingBind(u64),
    NetRingBind(u64),
    FaultPage(u64),
    DiskAlloc(u64, u64),
    DiskFree(Capability),
    DiskBind(Capability, u64),
    DiskUnbind(u64, u64),
    OtherRevoke(Capability),
    Request(Box<Submission>),
    FilterAlloc([u64; 6]),
    FilterFree(Capability),
    FilterBind(Capability, u64),
    FilterUnbind(u64),
    NetKick,
    Exit,
}

impl Op {
    /// The call that a word stands for.
    pub fn from_word(world: &mut World, who: VcpuId, word: &Word) -> Op {
        let Word([_, kind, a, b]) = *word;
        let frames = world.machine.kernel.pages.frames.len();
        let (a, b) = (u64::from(a), u64::from(b));
        // Of the last few, mostly.
        let at = if a & 3 == 0 {
            a as usize >> 2
        } else {
            world.pool.len() - 1 - (a as usize >> 2) % 6 % world.pool.len()
        };
        let capability = world.pool[at % world.pool.len()];
        let claim = capability.claim();
        let kind_of = claim.map(|claim| claim.resource);
        let count = match b % 16 {
            0 => 512,
            1 | 2 => 1 + b / 16 % 300,
            _ => 1 + b / 16 % 12,
        };
        let align = if count == 512 { 512 } else { 1 << (b >> 20 & 3) };
        let entry = if b >> 24 & 1 == 0 { 0 } else { b >> 25 & 3 };
        let rights = [1, 3, 3, 5, 7, 1, 2, 15][b as usize & 7] | entry << 8;
        // Something near what a capability names, or anywhere.
        let (first, length) = match claim {
            Some(claim) if b & 8 != 0 => {
                let first = claim.first + b / 16 % claim.count.max(1);
                (first % frames, 1 + (b >> 16) % claim.count.clamp(1, 700))
            }
            Some(claim) => (claim.first % frames, claim.count.clamp(1, frames)),
            None => (a % frames, count),
        };
        let length = length.min(frames - first);
        match kind % 128 {
            0..20 if b >> 28 & 3 != 0 => Op::Allocate(ANY, count, align),
            0..20 => Op::Allocate(a % (frames + 8) / align * align, count, align),
            20..32 => Op::Free(capability),
            32..54 => Op::Bind(capability, rights),
            54..66 => Op::Unbind(first, length, entry),
            66..74 => Op::Derive(capability, first, length, Rights([1, 3, 7, 15][(b >> 30) as usize])),
            74..80 if kind_of == Some(Resource::Page) => Op::Revoke(capability),
            74..80 => Op::OtherRevoke(capability),
            80..84 => Op::ViewCreate(2 + b % 7),
            84..88 => {
                Op::ViewOffer(1 + a % 3, (u64::from(who.environment.number()) + b % 2) % 3 + 1).valid(who)
            }
            88..92 => Op::ViewAccept(1 + (a % 3) as u16, 1 + b % 3),
            92..95 => Op::ViewEnd(1 + a % 3),
            95..97 => Op::VcpuStart(a % 3),
            97 => Op::RingBind(first),
            98 => Op::NetRingBind(first),
            99 => Op::FaultPage(if b & 1 == 0 { ANY } else { first }),
            100..103 => Op::DiskAlloc(if b & 1 == 0 { ANY } else { a % 66 }, 1 + b / 2 % 20),
            103 => Op::DiskFree(capability),
            104..107 => Op::DiskBind(capability, 1 + b % 3),
            107 => Op::DiskUnbind(first, length),
            108..116 => {
                let operation =
                    [Operation::Read, Operation::Write, Operation::Write, Operation::Flush][b as usize & 3];
                let blocks = if operation == Operation::Flush { 0 } else { 1 + (b >> 2) % 4 };
                let frames: Vec<u64> = (first..first + blocks).collect();
                Op::Request(Box::new(submission(operation as u8, a % 64, &frames)))
            }
            116..119 => {
                let destination = [Destination::Own, Destination::Shared, Destination::Group][a as usize % 3];
                Op::FilterAlloc(Filter::all(destination).to_words())
            }
            119 => Op::FilterFree(capability),
            120..122 => Op::FilterBind(capability, 1 + b % 3),
            122 => Op::FilterUnbind(a % 8),
            123..127 => Op::NetKick,
            _ if a % 4 == 0 => Op::Exit,
            _ => Op::VcpuStart(1),
        }
    }

    /// Not to oneself.
    fn valid(self, who: VcpuId) -> Op {
        match self {
            Op::ViewOffer(entry, to) if to == u64::from(who.environment.number()) => {
                Op::ViewOffer(entry, to % 3 + 1)
            }
            op => op,
        }
    }

    /// Its number and arguments.
    pub fn call(&self) -> (Call, Vec<u64>) {
        let with = |capability: &Capability, rest: &[u64]| capability.0.iter().chain(rest).copied().collect();
        match self {
            Op::Allocate(first, count, align) => (Call::PageAlloc, vec![*first, *count, *align]),
            Op::Free(capability) => (Call::PageFree, with(capability, &[])),
            Op::Bind(capability, rights) => (Call::PageBind, with(capability, &[*rights])),
            Op::Unbind(first, count, entry) => (Call::PageUnbind, vec![*first, *count, *entry]),
            Op::Derive(capability, first, count, rights) => {
                (Call::Derive, with(capability, &[*first, count | u64::from(rights.0) << 56]))
            }
            Op::Revoke(capability) | Op::OtherRevoke(capability) => (Call::Revoke, with(capability, &[])),
            Op::ViewCreate(budget) => (Call::ViewCreate, vec![*budget]),
            Op::ViewOffer(entry, to) => (Call::ViewOffer, vec![*entry, *to]),
            Op::ViewAccept(owner, entry) => (Call::ViewAccept, vec![(*owner).into(), *entry]),
            Op::ViewEnd(entry) => (Call::ViewEnd, vec![*entry]),
            Op::VcpuStart(core) => (Call::VcpuStart, vec![*core]),
            Op::RingBind(first) => (Call::RingBind, vec![*first]),
            Op::NetRingBind(first) => (Call::NetRingBind, vec![*first]),
            Op::FaultPage(frame) => (Call::FaultPage, vec![*frame]),
            Op::DiskAlloc(first, blocks) => (Call::DiskAlloc, vec![*first, *blocks]),
            Op::DiskFree(capability) => (Call::DiskFree, with(capability, &[])),
            Op::DiskBind(capability, rights) => (Call::DiskBind, with(capability, &[*rights])),
            Op::DiskUnbind(first, blocks) => (Call::DiskUnbind, vec![*first, *blocks]),
            Op::Request(_) => (Call::RingKick, vec![]),
            Op::FilterAlloc(words) => (Call::FilterAlloc, words.to_vec()),
            Op::FilterFree(capability) => (Call::FilterFree, with(capability, &[])),
            Op::FilterBind(capability, rights) => (Call::FilterBind, with(capability, &[*rights])),
            Op::FilterUnbind(number) => (Call::FilterUnbind, vec![*number]),
            Op::NetKick => (Call::NetKick, vec![]),
            Op::Exit => (Call::Exit, vec![0]),
        }
    }

    /// Whether what it gives is a capability.
    pub fn gives_capability(&self) -> bool {
        matches!(
            self,
            Op::Allocate(..)
                | Op::Derive(..)
                | Op::Revoke(_)
                | Op::OtherRevoke(_)
                | Op::DiskAlloc(..)
                | Op::FilterAlloc(_)
        )
    }

    /// Faults that different frames of one call can have.
    pub fn faults(&self) -> &'static [Status] {
        match self {
            Op::Unbind(_, 2.., _) => &[Status::Busy, Status::NotBound, Status::NoRight],
            Op::Free(_) => &[Status::Busy, Status::StaleCapability],
            Op::Bind(..) => &[Status::InUse, Status::StaleCapability],
            _ => &[],
        }
    }

    /// Whether the reference does not know if it should be refused.
    pub fn may_be_refused(&self) -> bool {
        match self {
            Op::Derive(capability, ..) => {
                capability.claim().is_some_and(|claim| claim.resource != Resource::Page)
            }
            Op::Free(_) | Op::Bind(..) | Op::Unbind(..) | Op::Revoke(_) => false,
            Op::ViewCreate(_) | Op::ViewOffer(..) | Op::ViewAccept(..) | Op::ViewEnd(_) => false,
            _ => true,
        }
    }
}
