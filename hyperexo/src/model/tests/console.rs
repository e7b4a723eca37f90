//! The console: lines, room, bytes that are not the caller's.

use crate::model::Machine;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::hypercall::{CONSOLE_MAX_BYTES, Call, Status};

const FRAME: u64 = FRAME_BYTES as u64;

#[test]
fn lines_are_taken_as_far_as_there_is_room() {
    let mut machine = Machine::with(2);
    let one = machine.vcpu(1);
    let (first, _) = machine.frames(one, 2);
    let address = first * FRAME + 4090;
    machine.kernel.pages.memory.write(first, 4090, b"across\nthe seam\n");
    assert_eq!(machine.call(one, Call::ConsoleWrite, &[address, 16]).unwrap()[0], 16);
    assert_eq!(machine.kernel.console.taken(1), "model1| across\nmodel1| the seam\n");
    machine.kernel.pages.memory.write(first, 0, &[b'x'; FRAME_BYTES]);
    machine.kernel.pages.memory.write(first, 99, b"\n");
    let [taken, ..] = machine.call(one, Call::ConsoleWrite, &[first * FRAME, CONSOLE_MAX_BYTES]).unwrap();
    assert!((100..CONSOLE_MAX_BYTES).contains(&taken), "{taken}: the rest has no room");
    let mut left = 10;
    while machine.call(one, Call::ConsoleWrite, &[first * FRAME, CONSOLE_MAX_BYTES]) != Err(Status::Busy) {
        left -= 1;
        assert!(left > 0, "its queue has no end");
    }
    // Somebody else has room of its own.
    let two = machine.vcpu(2);
    let (theirs, _) = machine.frames(two, 1);
    machine.kernel.pages.memory.write(theirs, 0, b"here\n");
    assert_eq!(machine.call(two, Call::ConsoleWrite, &[theirs * FRAME, 5]).unwrap()[0], 5);
}

#[test]
fn bytes_that_are_not_bound_are_not_written() {
    let mut machine = Machine::with(2);
    let [one, two] = [1, 2].map(|number| machine.vcpu(number));
    let (theirs, _) = machine.frames(two, 1);
    let (first, _) = machine.frames(one, 1);
    for (address, bytes, expected) in [
        (first * FRAME, CONSOLE_MAX_BYTES + 1, Status::BadArgument),
        (u64::MAX, 2, Status::BadArgument),
        (theirs * FRAME, 1, Status::NotBound),
        (first * FRAME + 4095, 2, Status::NotBound),
        (1 << 50, 1, Status::NotBound),
    ] {
        assert_eq!(machine.call(one, Call::ConsoleWrite, &[address, bytes]), Err(expected), "{address:x}");
    }
    assert_eq!(machine.kernel.console.taken(1), "");
    assert_eq!(machine.call(one, Call::ConsoleWrite, &[first * FRAME, 0]).unwrap()[0], 0);
}
