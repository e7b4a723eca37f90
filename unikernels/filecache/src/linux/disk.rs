//! What the kernel counts of a disk: `/proc/diskstats` (Linux, Documentation/admin-guide/iostats.rst).

use super::memory::unreadable;
use crate::lines::BLOCK_BYTES;
use crate::workload::RunError;

const PATH: &str = "/proc/diskstats";
/// Bytes in a sector of that file, whatever the disk's are.
const SECTOR_BYTES: u64 = 512;

/// Requests and blocks since the kernel's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Read requests completed.
    pub reads: u64,
    /// Blocks read.
    pub blocks_read: u64,
    /// Write requests completed.
    pub writes: u64,
    /// Blocks written.
    pub blocks_written: u64,
}

impl DiskCounters {
    /// Counters of a disk by its name, such as `vda`.
    ///
    /// # Errors
    ///
    /// If the kernel knows no such disk.
    pub fn read(disk: &str) -> Result<DiskCounters, RunError> {
        let text = std::fs::read_to_string(PATH).map_err(|error| unreadable(PATH, &error))?;
        DiskCounters::parse(&text, disk)
            .ok_or_else(|| RunError::malformed(PATH, format!("there is no disk {disk} in it")))
    }

    fn parse(text: &str, disk: &str) -> Option<DiskCounters> {
        let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let fields = fields.into_iter().find(|fields| fields.get(2) == Some(&disk))?;
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        // Before a file system is mounted, the kernel reads less than blocks: partition tables, superblocks.
        let blocks = |sectors: u64| (sectors * SECTOR_BYTES).div_ceil(BLOCK_BYTES as u64);
        Some(DiskCounters {
            reads: number(3)?,
            blocks_read: blocks(number(5)?),
            writes: number(7)?,
            blocks_written: blocks(number(9)?),
        })
    }

    /// What has come since `before`.
    pub fn since(self, before: DiskCounters) -> DiskCounters {
        DiskCounters {
            reads: self.reads - before.reads,
            blocks_read: self.blocks_read - before.blocks_read,
            writes: self.writes - before.writes,
            blocks_written: self.blocks_written - before.blocks_written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_named_disk_are_read() {
        let text = "   7       0 loop0 1 0 8 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n 253       0 vda 12 3 1036 7 5 1 80 2 0 9 9 \
                    0 0 0 0 0 0\n";
        let counters = DiskCounters { reads: 12, blocks_read: 130, writes: 5, blocks_written: 10 };
        assert_eq!(DiskCounters::parse(text, "vda"), Some(counters));
        assert_eq!(DiskCounters::parse(text, "vdb"), None);
        assert_eq!(DiskCounters::parse("253 0 vda 12", "vda"), None);
    }
}
