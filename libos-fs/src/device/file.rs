//! A disk image in a file of the host.

use super::{
    BLOCK_BYTES, BlockDevice, Completion, DeviceError, Operation, Rejected, Rejection, Request, validate,
};
use alloc::collections::VecDeque;
use core::task::Waker;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A disk image in a file of the host. Requests are carried out as they are submitted.
pub struct FileDisk {
    file: File,
    blocks: u64,
    read_only: bool,
    completions: VecDeque<Completion>,
}

/// Requests that a [`FileDisk`] takes before a completion must be fetched.
const QUEUE_DEPTH: usize = 32;

impl FileDisk {
    /// Makes an image of `blocks` blocks of zeros; an existing file is cleared first.
    pub fn create(path: &Path, blocks: u64) -> io::Result<FileDisk> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let bytes = blocks.checked_mul(BLOCK_BYTES as u64).ok_or(io::ErrorKind::InvalidInput)?;
        file.set_len(bytes)?;
        Ok(FileDisk { file, blocks, read_only: false, completions: VecDeque::new() })
    }

    /// Opens an image for reading and writing; an incomplete block at the end is not reachable.
    pub fn open(path: &Path) -> io::Result<FileDisk> {
        FileDisk::from_file(OpenOptions::new().read(true).write(true).open(path)?, false)
    }

    /// Opens an image for reading only.
    pub fn open_read_only(path: &Path) -> io::Result<FileDisk> {
        FileDisk::from_file(File::open(path)?, true)
    }

    /// An image that is open already, for example because it is locked, or a block device of the host.
    pub fn from_file(mut file: File, read_only: bool) -> io::Result<FileDisk> {
        // The metadata of a block device do not tell its length.
        let blocks = file.seek(SeekFrom::End(0))? / BLOCK_BYTES as u64;
        Ok(FileDisk { file, blocks, read_only, completions: VecDeque::new() })
    }

    fn carry_out(&self, request: &mut Request) -> io::Result<()> {
        let mut offset = request.block * BLOCK_BYTES as u64;
        for buffer in &mut request.buffers {
            match request.operation {
                Operation::Read => self.file.read_exact_at(&mut buffer.0, offset)?,
                _ => self.file.write_all_at(&buffer.0, offset)?,
            }
            offset += BLOCK_BYTES as u64;
        }
        match request.operation {
            Operation::Flush => self.file.sync_data(),
            _ => Ok(()),
        }
    }
}

impl BlockDevice for FileDisk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn max_request_blocks(&self) -> usize {
        hyperexo_abi::ring::MAX_REQUEST_BLOCKS
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn submit(&mut self, mut request: Request) -> Result<(), Rejected> {
        if let Err(error) = validate(self, &request) {
            return Err(Rejected { request, reason: Rejection::Refused(error) });
        }
        if self.completions.len() >= QUEUE_DEPTH {
            return Err(Rejected { request, reason: Rejection::QueueFull });
        }
        let result = self.carry_out(&mut request).map_err(|_| DeviceError::Io);
        self.completions.push_back(Completion { tag: request.tag, buffers: request.buffers, result });
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn wait(&mut self) {}

    /// Every request has completed when it was taken.
    fn ready(&mut self, _: &Waker) -> bool {
        true
    }
}
