//! Sealing and checking capabilities: a keyed MAC makes four words of data an authority.
//!
//! The MAC is SipHash-2-4 with a 128-bit key that is drawn at boot and never leaves the kernel: forging one
//! means guessing 64 bits, a hypercall a guess.
//!
//! What a guest brings goes through three types: a [`Claim`] is what the words say; [`Verified`] says that
//! the kernel sealed them; [`Current`] says that the resource has neither been freed nor revoked since. Only
//! what is current can be bound, freed or revoked.
#![forbid(unsafe_code)]

use crate::machine::id::EnvironmentId;
use core::hash::Hasher;
use core::ops::Range;
use hyperexo_abi::capability::{Capability, Claim, Resource, Rights};
use hyperexo_abi::hypercall::Status;
use siphasher::sip::SipHasher24;

/// Whose a frame, an extent or a filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// There is none: no RAM lies there.
    Absent,
    /// Nobody's.
    Free,
    /// Nobody's as soon as the last pin is gone: a device was using it when its owner gave it back, or ended.
    Leaving,
    /// The kernel's.
    Kernel,
    /// An environment's.
    Environment(EnvironmentId),
}

/// A claim that the kernel has sealed; nothing is known of whether it is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified(Claim);

impl Verified {
    /// Kind of resource.
    pub fn resource(&self) -> Resource {
        self.0.resource
    }

    /// What may be done with it.
    pub fn rights(&self) -> Rights {
        self.0.rights
    }

    /// The stamp of the resource when this was sealed.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// First frame, block or filter.
    pub fn first(&self) -> u64 {
        self.0.first
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.count
    }

    /// One past the last.
    pub fn end(&self) -> u64 {
        self.0.end()
    }

    /// The claim itself.
    pub fn claim(&self) -> Claim {
        self.0
    }

    /// A part of it.
    ///
    /// # Panics
    ///
    /// If the part sticks out.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Verified {
        assert!(range.start >= self.first() && range.end <= self.end(), "a part of a claim lies inside it");
        Verified(Claim { first: range.start, count: range.end - range.start, ..self.0 })
    }

    /// A claim as if it had been sealed.
    #[cfg(test)]
    pub fn believed(claim: Claim) -> Verified {
        Verified(claim)
    }
}

/// A claim that was current when it was checked: it has to be used before anything else is done, and is used
/// up by that.
#[derive(Debug, PartialEq, Eq)]
pub struct Current {
    verified: Verified,
    owner: Owner,
}

impl Current {
    /// For the tables of resources, which alone know.
    pub(in crate::resource) fn new(verified: Verified, owner: Owner) -> Current {
        Current { verified, owner }
    }

    /// Whose the resource is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The claim.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The frames, blocks or filters.
    pub fn range(&self) -> Range<u64> {
        self.verified.first()..self.verified.end()
    }
}

/// The kernel's power to make capabilities.
pub struct Authority {
    key: [u8; 16],
}

impl Authority {
    /// An authority with a key that nobody else may know.
    pub fn new(key: [u8; 16]) -> Authority {
        Authority { key }
    }

    fn mac(&self, words: &[u64; 3]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        words.iter().for_each(|word| hasher.write_u64(*word));
        hasher.finish()
    }

    /// The capability that stands for a claim.
    pub fn seal(&self, claim: &Claim) -> Capability {
        let words = claim.words();
        Capability([words[0], words[1], words[2], self.mac(&words)])
    }

    /// The claim of a capability that this authority sealed, for `resource` and with at least `rights`.
    ///
    /// # Errors
    ///
    /// [`Status::ForgedCapability`], [`Status::NoRight`]. Whether the claim is still current is for the
    /// resource's table to say.
    pub fn verify(
        &self,
        capability: &Capability,
        resource: Resource,
        rights: Rights,
    ) -> Result<Verified, Status> {
        let claim = self.verify_any(capability)?;
        if claim.resource() != resource || !claim.rights().contains(rights) {
            return Err(Status::NoRight);
        }
        Ok(claim)
    }

    /// The claim of a capability that this authority sealed, whatever it is for.
    ///
    /// # Errors
    ///
    /// [`Status::ForgedCapability`].
    pub fn verify_any(&self, capability: &Capability) -> Result<Verified, Status> {
        let [a, b, c, mac] = capability.0;
        if self.mac(&[a, b, c]) != mac {
            return Err(Status::ForgedCapability);
        }
        capability.claim().map(Verified).ok_or(Status::ForgedCapability)
    }

    /// A capability for part of a claim, with part of its rights.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] if the part is empty or sticks out; [`Status::NoRight`] for rights the claim
    /// lacks.
    pub fn derive(
        &self,
        claim: &Verified,
        first: u64,
        count: u64,
        rights: Rights,
    ) -> Result<Capability, Status> {
        let claim = &claim.0;
        let end = first.checked_add(count).ok_or(Status::BadArgument)?;
        if count == 0 || first < claim.first || end > claim.end() {
            return Err(Status::BadArgument);
        }
        if !claim.rights.contains(rights) {
            return Err(Status::NoRight);
        }
        Ok(self.seal(&Claim { first, count, rights, ..*claim }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLAIM: Claim = Claim {
        resource: Resource::Page,
        rights: Rights::READ_WRITE,
        generation: 0x1_0000_0001,
        first: 100,
        count: 10,
    };

    fn authority() -> Authority {
        Authority::new(*b"sixteen bytes ok")
    }

    #[test]
    fn what_was_sealed_is_recognised() {
        let sealed = authority().seal(&CLAIM);
        assert_eq!(authority().verify(&sealed, Resource::Page, Rights::READ), Ok(Verified(CLAIM)));
        assert_eq!(authority().verify(&sealed, Resource::Disk, Rights::READ), Err(Status::NoRight));
        assert_eq!(authority().verify(&sealed, Resource::Page, Rights::EXECUTE), Err(Status::NoRight));
        let other = Authority::new([7; 16]);
        assert_eq!(other.verify(&sealed, Resource::Page, Rights::READ), Err(Status::ForgedCapability));
    }

    #[test]
    fn derivation_only_narrows() {
        let authority = authority();
        let part = authority.derive(&Verified(CLAIM), 103, 2, Rights::READ).unwrap();
        let claim = authority.verify(&part, Resource::Page, Rights::READ).unwrap();
        assert_eq!((claim.first(), claim.count(), claim.generation()), (103, 2, CLAIM.generation));
        for (first, count, rights, error) in [
            (99, 2, Rights::READ, Status::BadArgument),
            (109, 2, Rights::READ, Status::BadArgument),
            (105, 0, Rights::READ, Status::BadArgument),
            (u64::MAX, 2, Rights::READ, Status::BadArgument),
            (100, 10, Rights::ALL, Status::NoRight),
        ] {
            assert_eq!(authority.derive(&Verified(CLAIM), first, count, rights), Err(error));
        }
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_noticed(word in 0usize..4, bit in 0u32..64) {
            let mut forged = authority().seal(&CLAIM);
            forged.0[word] ^= 1 << bit;
            prop_assert_eq!(authority().verify_any(&forged), Err(Status::ForgedCapability));
        }
    }
}
