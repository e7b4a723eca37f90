//! The page tables that an environment starts with, as [`hyperexo_abi`] draws them.
//!
//! They lie in frames of the environment, which may change them as it likes or make its own: the kernel never
//! looks at them again.
#![forbid(unsafe_code)]

use super::image::ImagePlan;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LINEAR_BASE, STACK_TOP};

/// Frames that one page directory of 2 MiB entries covers.
const DIRECTORY_FRAMES: u64 = 512 * 512;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const BYTES: u64 = FRAME_BYTES as u64;

/// Where the parts of a new environment lie in its run of frames: image, stack, start information, tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Frames of the image, gaps included.
    pub image_frames: u64,
    /// Frames of the start-up stack.
    pub stack_frames: u64,
    /// Frames of the page tables.
    pub table_frames: u64,
}

impl Layout {
    /// The layout for an image with this stack on a machine whose RAM ends at `memory_end_frame`.
    pub fn new(plan: &ImagePlan, stack_bytes: u64, memory_end_frame: u64) -> Layout {
        let stack_frames = stack_bytes.div_ceil(BYTES).max(1);
        // Top table; for the image one table each of the upper levels; for the stack the same; for the linear
        // map one table of the second level.
        let image_tables = 2 + regions(plan.first_page, plan.pages);
        let stack_tables = 2 + regions((STACK_TOP >> FRAME_SHIFT) - stack_frames, stack_frames);
        let linear_tables = 1 + memory_end_frame.div_ceil(DIRECTORY_FRAMES);
        Layout {
            image_frames: plan.pages,
            stack_frames,
            table_frames: 1 + image_tables + stack_tables + linear_tables,
        }
    }

    /// Offset of the stack in the run, in frames.
    pub fn stack(&self) -> u64 {
        self.image_frames
    }

    /// Offset of the start information.
    pub fn start_info(&self) -> u64 {
        self.stack() + self.stack_frames
    }

    /// Offset of the tables; the first is the top table.
    pub fn tables(&self) -> u64 {
        self.start_info() + 1
    }

    /// Frames of the whole run.
    pub fn total(&self) -> u64 {
        self.tables() + self.table_frames
    }
}

/// 2 MiB regions that a run of pages touches.
fn regions(first_page: u64, pages: u64) -> u64 {
    (first_page + pages).div_ceil(512) - first_page / 512
}

/// Writes the tables. `run` is the first frame of the environment's run, `write(frame, index, entry)` sets an
/// entry of a table in a frame; tables start as zeros.
pub fn write_tables(
    layout: &Layout,
    plan: &ImagePlan,
    run: u64,
    memory_end_frame: u64,
    write: impl FnMut(u64, usize, u64),
) {
    let first = run + layout.tables();
    let mut tables = Tables { next: first + 1, end: first + layout.table_frames, write };

    let image = tables.add(first, index(plan.first_page, 3));
    let directory = tables.add(image, 0);
    tables.pages(directory, plan.first_page, plan.pages, |page| {
        plan.page_rights(page).map_or(0, |rights| leaf(run + page, rights))
    });

    let stack_page = (STACK_TOP >> FRAME_SHIFT) - layout.stack_frames;
    let stack = tables.add(first, index(stack_page, 3));
    let directory = tables.add(stack, index(stack_page, 2));
    let stack_frame = run + layout.stack();
    tables.pages(directory, stack_page, layout.stack_frames, |page| {
        leaf(stack_frame + page, Rights::READ_WRITE)
    });

    let linear = tables.add(first, index(LINEAR_BASE >> FRAME_SHIFT, 3));
    for gigabyte in 0..memory_end_frame.div_ceil(DIRECTORY_FRAMES) {
        let directory = tables.add(linear, gigabyte as usize);
        for large in 0..512 {
            let frame = gigabyte * DIRECTORY_FRAMES + large * 512;
            let entry = frame << FRAME_SHIFT | PRESENT | WRITABLE | LARGE | NO_EXECUTE;
            (tables.write)(directory, large as usize, entry);
        }
    }
    debug_assert!(tables.next <= tables.end, "Layout::new counted too few tables");
}

/// Index of a page's entry in a table of a level (0: lowest).
fn index(page: u64, level: u32) -> usize {
    (page >> (9 * level) & 511) as usize
}

fn leaf(frame: u64, rights: Rights) -> u64 {
    let mut entry = frame << FRAME_SHIFT | PRESENT;
    if rights.contains(Rights::WRITE) {
        entry |= WRITABLE;
    }
    if !rights.contains(Rights::EXECUTE) {
        entry |= NO_EXECUTE;
    }
    entry
}

struct Tables<W> {
    next: u64,
    end: u64,
    write: W,
}

impl<W: FnMut(u64, usize, u64)> Tables<W> {
    /// A new table, entered in `parent` at `index`.
    fn add(&mut self, parent: u64, index: usize) -> u64 {
        let table = self.next;
        self.next += 1;
        (self.write)(parent, index, table << FRAME_SHIFT | PRESENT | WRITABLE);
        table
    }

    /// Lowest-level tables below `directory` for a run of pages; `entry` gets the page counted from the
    /// first.
    fn pages(&mut self, directory: u64, first_page: u64, pages: u64, entry: impl Fn(u64) -> u64) {
        let mut table = 0;
        for offset in 0..pages {
            let page = first_page + offset;
            if offset == 0 || page.is_multiple_of(512) {
                table = self.add(directory, index(page, 1));
            }
            (self.write)(table, index(page, 0), entry(offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// An image of two segments, read from a real (minimal) ELF file.
    fn plan() -> ImagePlan {
        let mut bytes = vec![0u8; 64 + 2 * 56 + 16];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16..24].copy_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
        bytes[24..32].copy_from_slice(&0x1f_f000u64.to_le_bytes());
        bytes[32] = 64;
        bytes[52..60].copy_from_slice(&[64, 0, 56, 0, 2, 0, 64, 0]);
        for (at, flags, address, size) in [(64, 5u32, 0x1f_f000u64, 16u64), (120, 6, 0x20_2000, 0x2000)] {
            bytes[at] = 1;
            bytes[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            bytes[at + 16..at + 24].copy_from_slice(&address.to_le_bytes());
            bytes[at + 40..at + 48].copy_from_slice(&size.to_le_bytes());
        }
        ImagePlan::parse(&bytes).unwrap()
    }

    fn translate(tables: &HashMap<(u64, usize), u64>, root: u64, address: u64) -> Option<(u64, bool, bool)> {
        let mut table = root;
        for level in (0..4).rev() {
            let entry = *tables.get(&(table, index(address >> 12, level)))?;
            if entry & PRESENT == 0 {
                return None;
            }
            let frame = entry >> 12 & ((1 << 40) - 1);
            if level == 0 || entry & LARGE != 0 {
                let within = address >> 12 & ((1 << (9 * level)) - 1);
                return Some((frame + within, entry & WRITABLE != 0, entry & NO_EXECUTE == 0));
            }
            table = frame;
        }
        None
    }

    #[test]
    fn the_start_up_map_is_as_documented() {
        let (plan, run, end) = (plan(), 1000, 300_000);
        let layout = Layout::new(&plan, 3 * BYTES, end);
        let mut tables = HashMap::new();
        write_tables(&layout, &plan, run, end, |frame, index, entry| {
            assert!((run + layout.tables()..run + layout.total()).contains(&frame), "table outside the run");
            tables.insert((frame, index), entry);
        });
        let at = |address| translate(&tables, run + layout.tables(), address);
        assert_eq!(at(0), None);
        assert_eq!(at(0x1f_f008), Some((1000, false, true)));
        assert_eq!(at(0x20_0000), None, "gap between the segments");
        assert_eq!(at(0x20_2000), Some((1003, true, false)));
        assert_eq!(at(0x20_3fff), Some((1004, true, false)));
        assert_eq!(at(0x20_4000), None);
        let stack = run + layout.stack();
        assert_eq!(at(STACK_TOP - 1), Some((stack + 2, true, false)));
        assert_eq!(at(STACK_TOP - 3 * BYTES), Some((stack, true, false)));
        assert_eq!(at(STACK_TOP - 3 * BYTES - 1), None, "guard page");
        assert_eq!(at(LINEAR_BASE + 0x12345678), Some((0x12345, true, false)));
        assert_eq!(at(LINEAR_BASE + (299_999 << 12)), Some((299_999, true, false)));
    }
}
