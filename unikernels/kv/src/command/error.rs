//! What is wrong with a command, in the words of Redis 7.0.

use crate::value::WrongType;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Why a command was refused. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The key holds something of another type.
    WrongType,
    /// Words that make no sense together.
    Syntax,
    /// A whole number was expected.
    NotAnInteger,
    /// A number was expected.
    NotAFloat,
    /// The command has too few or too many arguments.
    Arguments(&'static str),
    /// There is no such command: the text, with bytes of the client in it.
    UnknownCommand(Vec<u8>),
    /// There is no such subcommand of a command, or it has another number of arguments.
    UnknownSubcommand(&'static str, String),
    /// The time of expiry of a command can't be.
    InvalidExpiry(&'static str),
    /// The key must be there.
    NoSuchKey,
    /// Another text, with its code.
    Text(&'static str),
    /// A text with something of the command in it, with its code.
    Composed(String),
}

/// What a command gives, if nothing is wrong with it.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// The line of the protocol, without its first byte and its end.
    pub fn text(&self) -> Vec<u8> {
        let text = match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::Syntax => "ERR syntax error",
            Self::NotAnInteger => "ERR value is not an integer or out of range",
            Self::NotAFloat => "ERR value is not a valid float",
            Self::NoSuchKey => "ERR no such key",
            Self::Text(text) => text,
            Self::UnknownCommand(text) => return text.clone(),
            Self::Composed(text) => text,
            Self::Arguments(name) => &format!("ERR wrong number of arguments for '{name}' command"),
            Self::UnknownSubcommand(command, sub) => {
                &format!("ERR unknown subcommand '{sub}'. Try {} HELP.", command.to_ascii_uppercase())
            }
            Self::InvalidExpiry(name) => &format!("ERR invalid expire time in '{name}' command"),
        };
        text.as_bytes().to_vec()
    }
}

/// What is not UTF-8 in an error's text is replaced. 128 bytes are shown at most.
pub fn shown(argument: &[u8]) -> String {
    String::from_utf8_lossy(&argument[..argument.len().min(128)]).into_owned()
}

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Self {
        Self::WrongType
    }
}
