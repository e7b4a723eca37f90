//! The call of the console.
#![forbid(unsafe_code)]

use super::Step;
use crate::environment::Environment;
use crate::environment::underway::{ConsoleWrite, Underway};
use crate::kernel::Kernel;
use crate::machine::console::QUEUED_LINE_BYTES;
use crate::machine::id::EnvironmentId;
use crate::resource::count;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::{CONSOLE_MAX_BYTES, Status};
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};

/// Bytes taken at once.
const PIECE_BYTES: usize = 256;
/// Lines begun at once.
const PIECE_LINES: usize = 16;
/// Room that a line may need, if one without an end has to go first.
const LINE_ROOM: usize = 2 * QUEUED_LINE_BYTES;

/// `ConsoleWrite`.
pub fn write(kernel: &mut Kernel, id: EnvironmentId, address: u64, bytes: u64) -> Step {
    let Some(end) = address.checked_add(bytes).filter(|_| bytes <= CONSOLE_MAX_BYTES) else {
        return Status::BadArgument.into();
    };
    // All of it before any of it: a refused call has no effect.
    let mut frames = address >> FRAME_SHIFT..end.div_ceil(FRAME_BYTES as u64);
    if !frames.all(|frame| kernel.pages.has_bound(id, frame, Rights::READ)) {
        return Status::NotBound.into();
    }
    piece(kernel, id, ConsoleWrite { left: address..end, taken: 0 })
}

/// Takes the next bytes, as many lines as have room in the environment's queue.
pub fn piece(kernel: &mut Kernel, id: EnvironmentId, mut call: ConsoleWrite) -> Step {
    if call.left.is_empty() {
        return Ok([call.taken, 0, 0, 0]).into();
    }
    let at = call.left.start;
    let (frame, offset) = (at >> FRAME_SHIFT, at as usize % FRAME_BYTES);
    let most = (FRAME_BYTES - offset).min((call.left.end - at) as usize).min(PIECE_BYTES);
    // It may have been unbound since the last piece.
    if !kernel.pages.has_bound(id, frame, Rights::READ) {
        return Status::NotBound.into();
    }
    let mut copy = [0; PIECE_BYTES];
    kernel.pages.memory.read(frame, offset, &mut copy[..most]);
    let console = kernel.console;
    let Some(Environment { name, line, accounting, .. }) = kernel.environments.get_mut(id) else {
        return Status::NotBound.into();
    };
    let (mut taken, mut full) = (0, false);
    for part in copy[..most].split_inclusive(|byte| *byte == b'\n').take(PIECE_LINES) {
        full = !console.has_room(id.number(), LINE_ROOM);
        if full {
            break;
        }
        line.add(part, |text| console.environment_line(id.number(), name, text));
        taken += part.len() as u64;
    }
    call.left.start += taken;
    call.taken += taken;
    if full {
        // There is no room for more: whoever called may wait as it likes.
        count(&accounting.console_full, 1);
        return if call.taken == 0 { Status::Busy.into() } else { Ok([call.taken, 0, 0, 0]).into() };
    }
    if call.left.is_empty() {
        return Ok([call.taken, 0, 0, 0]).into();
    }
    Step::More(Underway::Console(call))
}
