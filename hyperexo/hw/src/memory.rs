//! The memory functions that compiled code calls without being asked: `memcpy` and its family.
//!
//! They are exported under names with the prefix `hx_`, so that test programs of the same workspace, which
//! have a C library, do not see them; the linker script of an image says `memcpy = hx_memcpy` and so on.
//! Those that a compiler could recognise and turn into a call of themselves are written in assembly.
//!
//! Copies load before they store: blocks up to 64 bytes entirely, longer ones 64 bytes a turn with the last
//! (or, going down, the first) 64 bytes kept in registers. So one function serves `memcpy` and `memmove`.
//! They use SSE rather than `rep movs`, which an emulator (QEMU's TCG) carries out 4 (quadwords) to 30
//! (bytes) times slower.

use core::arch::naked_asm;

/// Copies `bytes` bytes, which may overlap; returns `destination`. Exported as `memcpy` and `memmove`.
///
/// # Safety
///
/// `source` must be readable and `destination` writable for `bytes` bytes.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hx_memmove(destination: *mut u8, source: *const u8, bytes: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 20f",
        "cmp rdx, 32",
        "ja 10f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        // 33 to 64 bytes
        "10:",
        "cmp rdx, 64",
        "ja 11f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + rdx - 32], xmm2",
        "movups [rdi + rdx - 16], xmm3",
        "ret",
        // more: downwards if the destination starts inside the source
        "11:",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 13f",
        "movups xmm4, [rsi + rdx - 64]",
        "movups xmm5, [rsi + rdx - 48]",
        "movups xmm6, [rsi + rdx - 32]",
        "movups xmm7, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx - 64]",
        "12:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "cmp rdi, r8",
        "jb 12b",
        "movups [r8], xmm4",
        "movups [r8 + 16], xmm5",
        "movups [r8 + 32], xmm6",
        "movups [r8 + 48], xmm7",
        "ret",
        "13:",
        "movups xmm4, [rsi]",
        "movups xmm5, [rsi + 16]",
        "movups xmm6, [rsi + 32]",
        "movups xmm7, [rsi + 48]",
        "14:",
        "movups xmm0, [rsi + rdx - 64]",
        "movups xmm1, [rsi + rdx - 48]",
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "movups [rdi + rdx - 64], xmm0",
        "movups [rdi + rdx - 48], xmm1",
        "movups [rdi + rdx - 32], xmm2",
        "movups [rdi + rdx - 16], xmm3",
        "sub rdx, 64",
        "cmp rdx, 64",
        "ja 14b",
        "movups [rdi], xmm4",
        "movups [rdi + 16], xmm5",
        "movups [rdi + 32], xmm6",
        "movups [rdi + 48], xmm7",
        "ret",
        // fewer than 16 bytes
        "20:",
        "cmp edx, 8",
        "jb 21f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "21:",
        "cmp edx, 4",
        "jb 22f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "22:",
        "test edx, edx",
        "jz 23f",
        "mov r9, rdx",
        "shr r9, 1",
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + r9]",
        "movzx r10d, byte ptr [rsi + rdx - 1]",
        "mov [rdi], cl",
        "mov [rdi + r9], r8b",
        "mov [rdi + rdx - 1], r10b",
        "23:",
        "ret",
    )
}

/// Sets `bytes` bytes to the low byte of `value`; returns `destination`. Exported as `memset`.
///
/// # Safety
///
/// `destination` must be writable for `bytes` bytes.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hx_memset(destination: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "movzx esi, sil",
        "mov rcx, 0x0101010101010101",
        "imul rsi, rcx",
        "cmp rdx, 16",
        "jb 20f",
        "movq xmm0, rsi",
        "punpcklqdq xmm0, xmm0",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm0",
        "cmp rdx, 32",
        "jbe 13f",
        // from the first aligned address to the last 16 bytes, which are done
        "lea r8, [rdi + rdx - 16]",
        "lea r9, [r8 - 48]",
        "add rdi, 16",
        "and rdi, -16",
        "jmp 11f",
        "10:",
        "movaps [rdi], xmm0",
        "movaps [rdi + 16], xmm0",
        "movaps [rdi + 32], xmm0",
        "movaps [rdi + 48], xmm0",
        "add rdi, 64",
        "11:",
        "cmp rdi, r9",
        "jb 10b",
        "jmp 14f",
        "12:",
        "movaps [rdi], xmm0",
        "add rdi, 16",
        "14:",
        "cmp rdi, r8",
        "jb 12b",
        "13:",
        "ret",
        "20:",
        "cmp edx, 8",
        "jb 21f",
        "mov [rdi], rsi",
        "mov [rdi + rdx - 8], rsi",
        "ret",
        "21:",
        "cmp edx, 4",
        "jb 22f",
        "mov [rdi], esi",
        "mov [rdi + rdx - 4], esi",
        "ret",
        "22:",
        "test edx, edx",
        "jz 23f",
        "mov r9, rdx",
        "shr r9, 1",
        "mov [rdi], sil",
        "mov [rdi + r9], sil",
        "mov [rdi + rdx - 1], sil",
        "23:",
        "ret",
    )
}

/// Compares byte strings as unsigned bytes: negative, zero or positive like the first difference. Exported as
/// `memcmp` and `bcmp`.
///
/// # Safety
///
/// `left` and `right` must be readable for `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hx_memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    let mut at = 0;
    while at + 8 <= bytes {
        // SAFETY: `at + 8 <= bytes`, and the caller vouches for `bytes` readable bytes on both sides.
        let (a, b) = unsafe {
            (left.add(at).cast::<u64>().read_unaligned(), right.add(at).cast::<u64>().read_unaligned())
        };
        if a != b {
            return if a.swap_bytes() < b.swap_bytes() { -1 } else { 1 };
        }
        at += 8;
    }
    while at < bytes {
        // SAFETY: `at < bytes`, as above.
        let (a, b) = unsafe { (*left.add(at), *right.add(at)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        at += 1;
    }
    0
}

/// Number of bytes before the first zero byte. Exported as `strlen`.
///
/// # Safety
///
/// `text` must be readable up to and including a zero byte.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hx_strlen(text: *const u8) -> usize {
    naked_asm!("xor eax, eax", "2:", "cmp byte ptr [rdi + rax], 0", "je 3f", "inc rax", "jmp 2b", "3:", "ret",)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Lengths around every branch of the copies.
    const LENGTHS: [usize; 24] =
        [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200, 4096, 5000];

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
    }

    #[test]
    fn moves_equal_the_library_at_every_overlap() {
        for length in LENGTHS {
            for (source, destination) in
                [(0, 0), (0, 1), (1, 0), (3, 70), (70, 3), (0, 5100), (5100, 0), (16, 48)]
            {
                let mut expected = pattern(10_300);
                let mut actual = expected.clone();
                expected.copy_within(source..source + length, destination);
                let base = actual.as_mut_ptr();
                // SAFETY: both ranges end before 10,300.
                let returned =
                    unsafe { hx_memmove(base.add(destination), base.add(source).cast_const(), length) };
                assert_eq!(returned as usize, base as usize + destination);
                assert_eq!(actual, expected, "{length} bytes from {source} to {destination}");
            }
        }
    }

    #[test]
    fn set_touches_exactly_the_range() {
        for length in LENGTHS {
            for offset in [0, 1, 15, 16] {
                let mut expected = pattern(5100);
                let mut actual = expected.clone();
                expected[offset..offset + length].fill(0xa5);
                // SAFETY: the range ends before 5,100.
                unsafe { hx_memset(actual.as_mut_ptr().add(offset), 0x1234_56a5, length) };
                assert_eq!(actual, expected, "{length} bytes at {offset}");
            }
        }
    }

    #[test]
    fn compare_finds_the_first_difference() {
        for length in LENGTHS {
            let left = pattern(length);
            // SAFETY: both are `length` bytes long.
            assert_eq!(unsafe { hx_memcmp(left.as_ptr(), left.as_ptr(), length) }, 0);
            for at in [0, 1, 7, 8, 9, 40].into_iter().filter(|at| *at < length) {
                let mut right = left.clone();
                right[at] = right[at].wrapping_add(128);
                if let Some(later) = right.get_mut(at + 1) {
                    *later = later.wrapping_sub(1);
                }
                // SAFETY: both are `length` bytes long.
                let order = unsafe { hx_memcmp(left.as_ptr(), right.as_ptr(), length) };
                assert_eq!(order.signum(), left.cmp(&right) as i32, "{length} bytes, differ at {at}");
            }
        }
    }

    #[test]
    fn length_of_text() {
        for text in [c"", c"a", c"hyperexo"] {
            // SAFETY: a C string ends with a zero byte.
            assert_eq!(unsafe { hx_strlen(text.as_ptr().cast()) }, text.to_bytes().len());
        }
    }
}
