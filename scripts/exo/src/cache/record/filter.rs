//! The program with which the kernel picks the system calls that are looked at (seccomp(2)). All others run
//! at their full speed.
//!
//! ```text
//! architecture ── not x86-64 ──────────────► trace, FOREIGN
//! number ──────── of the x32 kind ─────────► trace, FOREIGN
//!        ──────── one of LOOKED_AT ────────► trace, NATIVE
//!        ──────── mmap ── of a file ───────► trace, NATIVE
//!        └─────── any other ───────────────► allow
//! ```
//!
//! The filter refuses nothing, and programs that install filters of their own do so on top of it.

use super::calls::{LOOKED_AT, MAP};
use nix::libc;
use seccompiler::{BpfProgram, sock_filter};

/// What the kernel says with the stop at a call that is looked at.
pub const NATIVE: u32 = 0;
/// The same for a call of another kind than x86-64's: one of a 32-bit program.
pub const FOREIGN: u32 = 1;

/// Bit of numbers of the x32 kind (`__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;
/// `AUDIT_ARCH_X86_64`: the ELF machine, 64 bits, little-endian.
const X86_64: u32 = 0xc000_003e;

/// Where things are in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The low half of the fourth argument: the flags of `mmap`.
const FLAGS: u32 = 16 + 3 * 8;

/// The program.
pub fn program() -> BpfProgram {
    let calls = LOOKED_AT.len();
    // Behind the calls are: mmap, allow, the flags' word and test, trace.
    let to_trace = |at: usize| (calls - at + 3) as u8;
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, X86_64, 1, 0),
        give(libc::SECCOMP_RET_TRACE | FOREIGN),
        load(NUMBER),
        jump(libc::BPF_JGE, X32, 0, 1),
        give(libc::SECCOMP_RET_TRACE | FOREIGN),
    ];
    let each = LOOKED_AT.iter().enumerate();
    program.extend(each.map(|(at, number)| jump(libc::BPF_JEQ, *number as u32, to_trace(at), 0)));
    program.extend([
        jump(libc::BPF_JEQ, MAP as u32, 1, 0),
        give(libc::SECCOMP_RET_ALLOW),
        load(FLAGS),
        jump(libc::BPF_JSET, libc::MAP_ANONYMOUS as u32, 1, 0),
        give(libc::SECCOMP_RET_TRACE | NATIVE),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
    program
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump(test: u32, with: u32, if_so: u8, if_not: u8) -> sock_filter {
    instruction(libc::BPF_JMP | test | libc::BPF_K, if_so, if_not, with)
}

fn give(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    // All codes are below 256.
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program gives for a call: an interpreter of the instructions that it uses.
    fn verdict(architecture: u32, number: u32, flags: u32) -> u32 {
        let program = program();
        let (mut at, mut word) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let code = u32::from(code);
            let test = |holds: bool| usize::from(if holds { jt } else { jf });
            match (code & 0x7, code & 0xf0) {
                (libc::BPF_LD, _) if k == ARCHITECTURE => word = architecture,
                (libc::BPF_LD, _) if k == NUMBER => word = number,
                (libc::BPF_LD, _) => word = flags,
                (libc::BPF_JMP, libc::BPF_JEQ) => at += test(word == k),
                (libc::BPF_JMP, libc::BPF_JGE) => at += test(word >= k),
                (libc::BPF_JMP, libc::BPF_JSET) => at += test(word & k != 0),
                (libc::BPF_RET, _) => return k,
                other => panic!("instruction {other:?}"),
            }
        }
    }

    #[test]
    fn exactly_the_calls_that_are_looked_at_stop() {
        for number in 0..500 {
            let looked_at = LOOKED_AT.contains(&i64::from(number)) || i64::from(number) == MAP;
            let expected = if looked_at { libc::SECCOMP_RET_TRACE } else { libc::SECCOMP_RET_ALLOW };
            assert_eq!(verdict(X86_64, number, libc::MAP_PRIVATE as u32), expected, "call {number}");
        }
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32;
        assert_eq!(verdict(X86_64, MAP as u32, anonymous), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn calls_of_other_kinds_are_counted_and_not_refused() {
        let i386 = 0x4000_0003;
        assert_eq!(verdict(i386, 3, 0), libc::SECCOMP_RET_TRACE | FOREIGN);
        assert_eq!(verdict(X86_64, X32 | 1, 0), libc::SECCOMP_RET_TRACE | FOREIGN);
    }
}
