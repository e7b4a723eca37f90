//! Names that the whole kernel uses: environments, sets of them, virtual CPUs.
#![forbid(unsafe_code)]

use hyperexo_abi::accounting::MAX_ENVIRONMENTS;

/// Name of an environment: the number of its slot, and how often the slot has been used.
///
/// The number is what guests see, and what indexes tables. The generation makes a name that has outlived its
/// environment useless: the slot's next environment has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnvironmentId {
    number: u16,
    generation: u16,
}

const _: () = assert!(MAX_ENVIRONMENTS <= u64::BITS as usize, "a bit for each in `EnvironmentSet`");

impl EnvironmentId {
    /// The environment in slot `number`, which has had `generation` environments before.
    ///
    /// # Panics
    ///
    /// If the number is 0, which stands for the kernel, or not below [`MAX_ENVIRONMENTS`].
    pub const fn new(number: u16, generation: u16) -> EnvironmentId {
        assert!(number != 0 && (number as usize) < MAX_ENVIRONMENTS, "number of an environment");
        EnvironmentId { number, generation }
    }

    /// Number of the slot: from 1, below [`MAX_ENVIRONMENTS`].
    pub const fn number(self) -> u16 {
        self.number
    }

    /// How many environments the slot has had before.
    pub const fn generation(self) -> u16 {
        self.generation
    }

    /// The number as an index of tables in which entry 0 is the kernel's.
    pub const fn index(self) -> usize {
        self.number as usize
    }

    /// Both parts in one word, as tables keep it.
    pub const fn to_bits(self) -> u32 {
        (self.generation as u32) << 16 | self.number as u32
    }

    /// The reverse of [`EnvironmentId::to_bits`].
    ///
    /// # Panics
    ///
    /// If the number is none.
    pub const fn from_bits(bits: u32) -> EnvironmentId {
        EnvironmentId::new(bits as u16, (bits >> 16) as u16)
    }
}

/// A set of environments, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentSet(u64);

impl EnvironmentSet {
    /// Nobody.
    pub const EMPTY: EnvironmentSet = EnvironmentSet(0);

    /// Only this one.
    pub fn of(id: EnvironmentId) -> EnvironmentSet {
        EnvironmentSet(1 << id.number)
    }

    /// Whether the environment is in it.
    pub fn contains(self, id: EnvironmentId) -> bool {
        self.0 >> id.number & 1 != 0
    }

    /// Adds an environment.
    pub fn insert(&mut self, id: EnvironmentId) {
        self.0 |= 1 << id.number;
    }

    /// Takes an environment out.
    pub fn remove(&mut self, id: EnvironmentId) {
        self.0 &= !(1 << id.number);
    }

    /// Those in either.
    #[must_use]
    pub fn union(self, other: EnvironmentSet) -> EnvironmentSet {
        EnvironmentSet(self.0 | other.0)
    }

    /// Those in this, but not in the other.
    #[must_use]
    pub fn without(self, other: EnvironmentSet) -> EnvironmentSet {
        EnvironmentSet(self.0 & !other.0)
    }

    /// Whether nobody is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers in it, lowest first.
    pub fn numbers(self) -> impl Iterator<Item = u16> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let number = (left != 0).then(|| left.trailing_zeros() as u16)?;
            left &= left - 1;
            Some(number)
        })
    }
}

/// A virtual CPU, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VcpuId {
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its index there.
    pub index: usize,
    /// Its core.
    pub core: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_word() {
        let id = EnvironmentId::new(63, 7);
        assert_eq!(EnvironmentId::from_bits(id.to_bits()), id);
        assert_ne!(id, EnvironmentId::new(63, 8));
    }

    #[test]
    fn sets_tell_who_is_in_them() {
        let [one, two, last] = [1, 2, 63].map(|number| EnvironmentId::new(number, 0));
        let mut set = EnvironmentSet::of(last);
        set.insert(one);
        assert!(set.contains(one) && set.contains(last) && !set.contains(two));
        assert_eq!(set.numbers().collect::<Vec<_>>(), [1, 63]);
        set.remove(one);
        assert_eq!(set, EnvironmentSet::of(last));
        assert!(set.without(EnvironmentSet::of(last)).is_empty());
    }
}
