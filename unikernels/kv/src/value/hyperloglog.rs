//! HyperLogLogs: how many different strings there were, to about 0.81 %, in 12 KiB.
//!
//! The bytes are those of Redis's dense form, so a value of Redis can be read here and the other way round: a
//! head of 16 bytes (`HYLL`, the form, three zeros, the last estimate as 64 bits, of which the highest says
//! that it is not current) and 16,384 registers of 6 bits. The estimate is Otmar Ertl's ("New cardinality
//! estimation algorithms for HyperLogLog sketches", 2017), as in Redis.

use crate::bytes::Bytes;
use alloc::vec;
use alloc::vec::Vec;

const REGISTERS: usize = 1 << 14;
/// Bits of the hash that count zeros.
const BITS: u32 = 64 - 14;
const HEAD: usize = 16;
const DENSE_BYTES: usize = HEAD + REGISTERS * 6 / 8;
const SPARSE: u8 = 1;

/// The registers of a HyperLogLog, a byte each.
#[derive(Clone)]
pub struct Registers(Vec<u8>);

/// Why a string is no HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not begin as one, or is too short.
    Other,
    /// It begins as one, and what follows can't be.
    Corrupt,
}

impl Default for Registers {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Registers {
    /// The registers that a string has.
    ///
    /// # Errors
    ///
    /// If it is no HyperLogLog.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        check(bytes)?;
        let mut registers = Self::default();
        if bytes[4] == SPARSE {
            registers.read_sparse(&bytes[HEAD..])?;
            return Ok(registers);
        }
        for (index, register) in registers.0.iter_mut().enumerate() {
            *register = get(&bytes[HEAD..], index);
        }
        Ok(registers)
    }

    /// Runs of zeros (`00xxxxxx`; `01xxxxxx` and a byte more), and of one value (`1vvvvvxx`).
    fn read_sparse(&mut self, runs: &[u8]) -> Result<(), Fault> {
        let (mut index, mut rest) = (0, runs);
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            let (value, length) = match first >> 6 {
                0 => (0, usize::from(first & 0x3f) + 1),
                1 => {
                    let (&second, after) = rest.split_first().ok_or(Fault::Corrupt)?;
                    rest = after;
                    (0, (usize::from(first & 0x3f) << 8 | usize::from(second)) + 1)
                }
                _ => (((first >> 2) & 0x1f) + 1, usize::from(first & 3) + 1),
            };
            self.0.get_mut(index..index + length).ok_or(Fault::Corrupt)?.fill(value);
            index += length;
        }
        if index == REGISTERS { Ok(()) } else { Err(Fault::Corrupt) }
    }

    /// Takes in what another has seen.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own = (*own).max(*other));
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|register| *register == 0)
    }

    /// The string that has these registers, without a current estimate.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = empty();
        for (index, register) in self.0.iter().enumerate() {
            set(&mut bytes.as_mut_slice()[HEAD..], index, *register);
        }
        bytes
    }

    /// How many different strings were seen, about.
    pub fn estimate(&self) -> u64 {
        let mut counts = [0u32; 64];
        self.0.iter().for_each(|register| counts[usize::from(*register & 63)] += 1);
        let registers = REGISTERS as f64;
        let mut z = registers * tau((registers - f64::from(counts[BITS as usize + 1])) / registers);
        for count in counts[1..=BITS as usize].iter().rev() {
            z = (z + f64::from(*count)) * 0.5;
        }
        z += registers * sigma(f64::from(counts[0]) / registers);
        // llroundl of what is positive.
        (0.721_347_520_444_481_7 * registers * registers / z + 0.5) as u64
    }
}

/// An empty HyperLogLog.
pub fn empty() -> Bytes {
    let mut bytes = vec![0; DENSE_BYTES];
    bytes[..4].copy_from_slice(b"HYLL");
    bytes[15] = 0x80;
    Bytes::from(bytes)
}

/// Whether a string can be a HyperLogLog.
///
/// # Errors
///
/// If not.
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    let is_one = bytes.len() >= HEAD && bytes.starts_with(b"HYLL") && bytes[4] <= SPARSE;
    if is_one && (bytes[4] == SPARSE || bytes.len() == DENSE_BYTES) { Ok(()) } else { Err(Fault::Other) }
}

/// The estimate that was written into a HyperLogLog, if it is current.
pub fn cached(bytes: &[u8]) -> Option<u64> {
    let estimate = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    (estimate >> 63 == 0).then_some(estimate)
}

/// Writes an estimate into a HyperLogLog, or that there is none.
pub fn set_cached(bytes: &mut [u8], estimate: Option<u64>) {
    match estimate {
        Some(estimate) => bytes[8..16].copy_from_slice(&estimate.to_le_bytes()),
        None => bytes[15] |= 0x80,
    }
}

/// Adds a string to a HyperLogLog in the dense form. Whether a register changed.
pub fn add(bytes: &mut [u8], element: &[u8]) -> bool {
    let hash = murmur(element, 0xadc8_3b19);
    let index = hash as usize & (REGISTERS - 1);
    let zeros = ((hash >> 14) | 1 << BITS).trailing_zeros() as u8 + 1;
    let registers = &mut bytes[HEAD..];
    let larger = get(registers, index) < zeros;
    if larger {
        set(registers, index, zeros);
    }
    larger
}

/// Whether a HyperLogLog is in the dense form.
pub fn is_dense(bytes: &[u8]) -> bool {
    bytes[4] != SPARSE
}

fn get(registers: &[u8], index: usize) -> u8 {
    let (byte, bit) = (index * 6 / 8, index * 6 % 8);
    let high = registers.get(byte + 1).copied().unwrap_or(0);
    ((u16::from(high) << 8 | u16::from(registers[byte])) >> bit) as u8 & 63
}

fn set(registers: &mut [u8], index: usize, value: u8) {
    let (byte, bit) = (index * 6 / 8, index * 6 % 8);
    let (mask, value) = (63u16 << bit, u16::from(value) << bit);
    registers[byte] = registers[byte] & !mask as u8 | value as u8;
    if let Some(high) = registers.get_mut(byte + 1) {
        *high = *high & !(mask >> 8) as u8 | (value >> 8) as u8;
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = root(x);
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

/// The square root of a number between 0 and 1, by Newton's steps from above.
fn root(x: f64) -> f64 {
    let mut root = 1.0;
    loop {
        let next = 0.5 * (root + x / root);
        if next >= root {
            return root;
        }
        root = next;
    }
}

/// MurmurHash64A (Austin Appleby), as Redis has it.
fn murmur(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 47;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 47;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 47
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn the_estimate_is_right_within_two_percent() {
        let mut bytes = empty();
        let mut seen = 0u64;
        for limit in [10, 1000, 20_000, 100_000] {
            while seen < limit {
                add(bytes.as_mut_slice(), format!("element:{seen}").as_bytes());
                seen += 1;
            }
            let estimate = Registers::read(&bytes).expect("a HyperLogLog").estimate();
            assert!(estimate.abs_diff(limit) * 50 <= limit, "{estimate} of {limit}");
        }
        let registers = Registers::read(&bytes).expect("a HyperLogLog");
        assert_eq!(registers.to_bytes().as_slice()[HEAD..], bytes.as_slice()[HEAD..]);
    }

    #[test]
    fn the_sparse_form_of_redis_is_read() {
        // PFADD of "a" to nothing, by Redis 7.0: zeros, one register, zeros.
        let mut sparse = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80".to_vec();
        sparse.extend([0x40 | 0x0f, 0xff, 0x84, 0x40 | 0x2f, 0xfe]);
        let registers = Registers::read(&sparse).expect("a HyperLogLog");
        assert_eq!((registers.0[0x1000], registers.estimate()), (2, 1));
        sparse.pop();
        assert_eq!(Registers::read(&sparse).err(), Some(Fault::Corrupt));
    }
}
