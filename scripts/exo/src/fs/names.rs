//! Names in images: as the command line has them, and as they are shown.
//!
//! On ext4 a name is any bytes. They come from the command line as they are, and are shown as `ls -b` shows
//! them: `\xNN` for a byte that is no text, `\\` for a backslash. HyperExo's own format has names of UTF-8
//! only.

use crate::error::{Error, Result};
use libos_fs::Format;
use libos_fs::ext4::{name_from_bytes, name_to_bytes};
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// A path of the command line, as the volume understands it.
pub fn path(format: Format, argument: &OsStr) -> Result<String> {
    match format {
        Format::Ext4 => Ok(name_from_bytes(argument.as_bytes())),
        Format::ExtentFs => text(argument).map(str::to_owned),
    }
}

/// A name or path for a volume of HyperExo's own format.
pub fn text(name: &OsStr) -> Result<&str> {
    name.to_str().ok_or_else(|| Error::Argument {
        what: format!(
            "{} is no name in HyperExo's own format, whose names are UTF-8",
            escaped(name.as_bytes(), true)
        ),
        fix: "give it another name".into(),
    })
}

/// How a name or path of a volume is shown.
pub fn shown(format: Format, name: &str) -> String {
    match format {
        Format::Ext4 => escaped(&name_to_bytes(name), true),
        Format::ExtentFs => escaped(name.as_bytes(), true),
    }
}

/// How a message with names in it is shown.
pub fn shown_message(message: &str) -> String {
    escaped(&name_to_bytes(message), false)
}

fn escaped(bytes: &[u8], backslashes: bool) -> String {
    let mut text = String::new();
    let put = |text: &mut String, byte: u8| {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' if backslashes => text.push_str("\\\\"),
                control if control.is_control() => {
                    control.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| put(&mut text, byte));
                }
                other => text.push(other),
            }
        }
        chunk.invalid().iter().for_each(|byte| put(&mut text, *byte));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_names_look_different() {
        let names: [&[u8]; 5] = [b"caf\xe9", b"caf\\xe9", "café".as_bytes(), b"a\nb", b"a\\nb"];
        let shown = names.map(|name| shown(Format::Ext4, &name_from_bytes(name)));
        assert_eq!(shown, ["caf\\xe9", "caf\\\\xe9", "café", "a\\x0ab", "a\\\\nb"]);
        assert_eq!(path(Format::Ext4, OsStr::from_bytes(b"caf\xe9")).unwrap(), name_from_bytes(b"caf\xe9"));
        let refused = path(Format::ExtentFs, OsStr::from_bytes(b"caf\xe9")).unwrap_err().to_string();
        assert!(refused.starts_with("caf\\xe9 "), "{refused}");
    }
}
