//! Disks that boot: GRUB, kernel and modules at the front, and behind them, from a whole block on, data.
//!
//! The front is the boot CD of [`crate::machine::iso`]. Its first sector is also a boot sector for disks, and
//! GRUB finds its files on it whatever it is attached as.

use super::qcow2;
use crate::error::{Error, Result};
use crate::host::output::Output;
use crate::machine::iso::{self, Contents};
use crate::units::Extent;
use hyperexo_abi::BLOCK_BYTES;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom};
use std::path::Path;

/// Bytes of the front: fixed, so that the place of the data can be written into the bundle that is part of
/// it.
pub const FRONT_BYTES: u64 = 32 << 20;

/// The blocks of a disk with so many bytes of data that are data.
pub fn data_extent(data_bytes: u64) -> Extent {
    let block = BLOCK_BYTES as u64;
    Extent { first: FRONT_BYTES / block, count: data_bytes / block }
}

/// Writes a raw disk image that boots `contents`, with the file `data` behind it. `scratch` is a directory
/// for what is needed in between.
pub fn write_raw(image: &Path, contents: &Contents<'_>, data: Option<&Path>, scratch: &Path) -> Result<()> {
    iso::write(image, contents, scratch)?;
    let mut file = File::options().write(true).open(image).map_err(Error::io("open", image))?;
    let front = file.metadata().map_err(Error::io("read", image))?.len();
    if front > FRONT_BYTES {
        return Err(Error::Argument {
            what: format!("kernel and images take {front} bytes, and {FRONT_BYTES} is the most on a disk"),
            fix: "use --format iso".into(),
        });
    }
    // Whole MiB: some hypervisors refuse other sizes.
    let front = if data.is_some() { FRONT_BYTES } else { front.next_multiple_of(1 << 20) };
    file.set_len(front).map_err(Error::io("extend", image))?;
    if let Some(data) = data {
        let mut source = File::open(data).map_err(Error::io("open", data))?;
        file.seek(SeekFrom::Start(front)).map_err(Error::io("extend", image))?;
        std::io::copy(&mut source, &mut file).map_err(Error::io("copy", data))?;
    }
    Ok(())
}

/// Writes the raw image `raw` as a qcow2 image to `output`, which the user calls `image`.
pub fn convert_to_qcow2(raw: &Path, output: &mut Output, image: &Path) -> Result<()> {
    let mut source = File::open(raw).map_err(Error::io("open", raw))?;
    let mut out = BufWriter::new(output);
    qcow2::write(&mut source, &mut out).map_err(Error::io("write", image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_begin_at_a_whole_block() {
        let extent = data_extent(10 << 20);
        assert_eq!((extent.first * BLOCK_BYTES as u64, extent.count), (FRONT_BYTES, 2560));
    }
}
