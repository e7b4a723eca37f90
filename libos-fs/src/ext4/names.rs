//! Names that are not UTF-8.
//!
//! A name on ext4 is any bytes but `/` and zero; a name here is text. A byte that is no UTF-8 becomes a
//! character of its own at the end of Unicode's private area, U+10FF80 for 0x80 to U+10FFFF for 0xff. Where
//! a name has such a character itself, each of its bytes is written that way. So different names stay
//! different, and every text leads back to the bytes.

use alloc::string::String;
use alloc::vec::Vec;

/// The character for byte 0; those from 0x80 on are used.
const BASE: u32 = 0x10_ff00;

/// A name or path of an image as text.
pub fn name_from_bytes(bytes: &[u8]) -> String {
    let mut name = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match is_byte(character) {
                Some(_) => name.extend(character.encode_utf8(&mut [0; 4]).bytes().filter_map(of_byte)),
                None => name.push(character),
            }
        }
        name.extend(chunk.invalid().iter().copied().filter_map(of_byte));
    }
    name
}

/// The bytes that such a text stands for.
pub fn name_to_bytes(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    for character in name.chars() {
        match is_byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The byte that a character stands for, if it is one of those.
fn is_byte(character: char) -> Option<u8> {
    u8::try_from(u32::from(character).checked_sub(BASE)?).ok().filter(|byte| !byte.is_ascii())
}

/// The character that stands for a byte.
fn of_byte(byte: u8) -> Option<char> {
    char::from_u32(BASE + u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_differs_from_all_others() {
        assert_eq!(name_from_bytes("größe".as_bytes()), "größe");
        let mut seen = alloc::collections::BTreeSet::new();
        let private = "\u{10ffe9}".as_bytes();
        let names: [&[u8]; 6] =
            [b"caf\xe9", "caf\u{e9}".as_bytes(), b"caf\xef\xbf\xbd", private, b"\xe9", &private[..3]];
        for name in names {
            let text = name_from_bytes(name);
            assert_eq!(name_to_bytes(&text), name);
            assert!(seen.insert(text));
        }
    }
}
