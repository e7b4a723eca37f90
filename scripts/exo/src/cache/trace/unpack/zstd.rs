//! zstd: frames one behind the other (RFC 8878, section 3).

use super::{Unchecked, damaged};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

/// Whether a skippable frame begins here: four of its magic number's 32 bits are free (section 3.1.2).
pub(super) fn is_skippable(start: &[u8]) -> bool {
    start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18]
}

/// The contents of all frames. `ruzstd` reads one frame, computes its checksum, and leaves the comparison to
/// others.
pub(super) struct Frames<'u, R> {
    input: R,
    unchecked: &'u Unchecked,
    decoder: FrameDecoder,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// A frame or the end is next.
    Between,
    /// In a frame: the size that its header states, if it does, and the bytes read.
    Within { stated: Option<u64>, read: u64 },
    /// After the last frame, or an error.
    Ended,
}

impl<R: BufRead> Frames<'_, R> {
    /// Reads from the first byte of the first frame on.
    pub(super) fn new(input: R, unchecked: &Unchecked) -> Frames<'_, R> {
        Frames { input, unchecked, decoder: FrameDecoder::new(), state: State::Between }
    }

    /// Reads contents of the frame; 0 at its end.
    fn contents(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        // The last window of a frame can be collected only when the frame is finished.
        while self.decoder.can_collect() < bytes.len() && !self.decoder.is_finished() {
            let missing = BlockDecodingStrategy::UptoBytes(bytes.len() - self.decoder.can_collect());
            let decoded = self.decoder.decode_blocks(&mut self.input, missing);
            decoded.map_err(|error| damaged(format!("a zstd frame is damaged: {error}")))?;
        }
        self.decoder.read(bytes)
    }

    /// Judges a frame that was read to its end.
    fn judge(&self, stated: Option<u64>, read: u64) -> io::Result<()> {
        if let Some(stated) = stated.filter(|stated| *stated != read) {
            return Err(damaged(format!("a zstd frame of {read} bytes claims to have {stated}")));
        }
        let computed = self.decoder.get_calculated_checksum();
        match self.decoder.get_checksum_from_data() {
            Some(stated) if Some(stated) != computed => {
                Err(damaged("the contents of a zstd frame do not have the checksum that it states"))
            }
            stated => {
                self.unchecked.set(self.unchecked.get() || stated.is_none());
                Ok(())
            }
        }
    }

    /// Begins the next frame, if there is one.
    fn begin(&mut self) -> io::Result<State> {
        let mut start = Vec::new();
        (&mut self.input).take(MAGIC_AND_DESCRIPTOR).read_to_end(&mut start)?;
        if start.is_empty() {
            return Ok(State::Ended);
        }
        match self.decoder.reset(start.as_slice().chain(&mut self.input)) {
            Ok(()) => {
                let stated = states_size(&start).then(|| self.decoder.content_size());
                Ok(State::Within { stated, read: 0 })
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => self.skip(length.into()),
            Err(error) => Err(damaged(format!("no zstd frame can be unpacked here: {error}"))),
        }
    }

    /// Passes over the contents of a skippable frame, whose head the decoder has read.
    fn skip(&mut self, length: u64) -> io::Result<State> {
        let skipped = io::copy(&mut (&mut self.input).take(length), &mut io::sink())?;
        if skipped < length {
            return Err(damaged(format!("a skippable zstd frame of {length} bytes ends after {skipped}")));
        }
        Ok(State::Between)
    }
}

/// Bytes of the magic number and the descriptor of a frame's header.
const MAGIC_AND_DESCRIPTOR: u64 = 5;

/// Whether the descriptor (section 3.1.1.1.1) says that the header states the size of the contents.
fn states_size(start: &[u8]) -> bool {
    let descriptor = start.last().copied().unwrap_or_default();
    let (size_flag, single_segment) = (descriptor >> 6, descriptor & 1 << 5 != 0);
    size_flag != 0 || single_segment
}

impl<R: BufRead> Read for Frames<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            // An error leaves `Ended` behind: nothing after it is to be believed.
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Between => self.state = self.begin()?,
                State::Within { stated, read } => {
                    let count = self.contents(bytes)?;
                    if count > 0 {
                        self.state = State::Within { stated, read: read + count as u64 };
                        return Ok(count);
                    }
                    self.judge(stated, read)?;
                    self.state = State::Between;
                }
            }
        }
    }
}
