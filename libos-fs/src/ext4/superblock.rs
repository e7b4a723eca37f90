//! What we read of the superblock ourselves.

use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use alloc::string::ToString;

/// Where the superblock begins.
pub(super) const SUPERBLOCK_BYTE: u64 = 1024;
/// Its length.
const SUPERBLOCK_BYTES: usize = 1024;
/// Bytes of an inode that ends before the second half of its checksum.
const SMALL_INODE_BYTES: u16 = 128;
/// Bytes of a group's descriptor without the feature `64bit`.
const SMALL_DESCRIPTOR_BYTES: u64 = 32;
/// `INCOMPAT_64BIT`: numbers of blocks have 48 bits or more, descriptors of groups 64 bytes.
pub(super) const WIDE: u32 = 0x80;
/// `RO_COMPAT_METADATA_CSUM`.
const METADATA_CHECKSUMS: u32 = 0x400;
/// `INCOMPAT_CSUM_SEED`.
const CHECKSUM_SEED: u32 = 0x2000;

/// The superblock of an image of ext2, ext3 or ext4.
pub(super) struct Superblock<'a>(&'a [u8]);

impl<'a> Superblock<'a> {
    /// The superblock in the first block of a device, if there is one.
    pub(super) fn of(first_block: &'a [u8; BLOCK_BYTES]) -> Option<Superblock<'a>> {
        let bytes = &first_block[SUPERBLOCK_BYTE as usize..][..SUPERBLOCK_BYTES];
        (bytes[0x38..0x3a] == [0x53, 0xef]).then_some(Superblock(bytes))
    }

    fn word(&self, at: usize) -> u32 {
        word(self.0, at)
    }

    fn half(&self, at: usize) -> u16 {
        self.word(at) as u16
    }

    /// The first revision had no features, and inodes of one size.
    fn has_features(&self) -> bool {
        self.word(0x4c) > 0
    }

    /// Features of which a reader may know nothing.
    pub(super) fn compatible_features(&self) -> u32 {
        if self.has_features() { self.word(0x5c) } else { 0 }
    }

    /// Features that a reader must know.
    pub(super) fn incompatible_features(&self) -> u32 {
        if self.has_features() { self.word(0x60) } else { 0 }
    }

    /// Whether the inodes are too small for their checksums.
    pub(super) fn has_small_inodes(&self) -> bool {
        self.half(0x58) == SMALL_INODE_BYTES
    }

    /// Where things are.
    ///
    /// # Errors
    ///
    /// [`FsError::Corrupt`] if that can't be.
    pub(super) fn geometry(&self) -> Result<Geometry, FsError> {
        let wide = self.incompatible_features() & WIDE != 0;
        let block_bytes = 1024u64.checked_shl(self.word(0x18)).filter(|bytes| (1024..=65536).contains(bytes));
        let block_bytes = block_bytes.ok_or_else(|| FsError::Corrupt("the size of a block".to_string()))?;
        let has_checksums = self.word(0x64) & METADATA_CHECKSUMS != 0 && !self.has_small_inodes();
        let seed = match self.incompatible_features() & CHECKSUM_SEED {
            0 => checksum(!0, &self.0[0x68..0x78]),
            _ => self.word(0x270),
        };
        Ok(Geometry {
            block_bytes,
            blocks: u64::from(self.word(0x4)) | if wide { u64::from(self.word(0x150)) << 32 } else { 0 },
            inodes_per_group: self.word(0x28).max(1),
            inode_bytes: u64::from(self.half(0x58)),
            descriptor_bytes: if wide { u64::from(self.half(0xfe)) } else { SMALL_DESCRIPTOR_BYTES },
            wide,
            checksum_seed: has_checksums.then_some(seed),
        })
    }
}

/// Where things are on an image.
pub(super) struct Geometry {
    /// Bytes of a block.
    pub(super) block_bytes: u64,
    /// Blocks of the image.
    pub(super) blocks: u64,
    /// With what checksums begin, if there are any.
    pub(super) checksum_seed: Option<u32>,
    inodes_per_group: u32,
    inode_bytes: u64,
    descriptor_bytes: u64,
    wide: bool,
}

impl Geometry {
    /// Byte of the descriptor of the group that an inode is in.
    pub(super) fn descriptor(&self, inode: u32) -> u64 {
        let group = u64::from((inode - 1) / self.inodes_per_group);
        let first = if self.block_bytes == 1024 { 2 } else { 1 };
        first * self.block_bytes + group * self.descriptor_bytes
    }

    /// Bytes of a descriptor that are needed.
    pub(super) fn descriptor_bytes(&self) -> usize {
        if self.wide { 64 } else { SMALL_DESCRIPTOR_BYTES as usize }
    }

    /// Byte of an inode, by its group's descriptor; `None` if that can't be.
    pub(super) fn inode(&self, inode: u32, descriptor: &[u8]) -> Option<u64> {
        let high = if self.wide { u64::from(word(descriptor, 0x28)) << 32 } else { 0 };
        let table = (high | u64::from(word(descriptor, 0x8))).checked_mul(self.block_bytes)?;
        table.checked_add(u64::from((inode - 1) % self.inodes_per_group) * self.inode_bytes)
    }
}

/// Four bytes as a number.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The checksum of ext4 over more bytes: CRC-32C, whose end is not inverted.
pub(super) fn checksum(sum: u32, bytes: &[u8]) -> u32 {
    const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut digest = CRC32C.digest_with_initial(sum.reverse_bits());
    digest.update(bytes);
    !digest.finalize()
}
