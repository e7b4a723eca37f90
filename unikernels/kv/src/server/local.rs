//! A client without a connection: who has the server in hand asks it directly.

use super::request::Next;
use super::state::Server;
use crate::resp::{Parser, write_command};
use alloc::string::String;
use alloc::vec::Vec;

/// A client that sends its requests as others do, in the protocol, and whose replies come at once.
pub struct Local {
    place: usize,
    parser: Parser,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Local {
    /// A new client; `None` if there are too many.
    pub fn new(server: &mut Server) -> Option<Local> {
        let place = server.connect(String::from("local"), String::from("local"))?;
        Some(Local { place, parser: Parser::new(), request: Vec::new(), reply: Vec::new() })
    }

    /// Writes down a command, for [`Local::ask`].
    pub fn add(&mut self, words: &[&[u8]]) {
        write_command(&mut self.request, words.iter().copied());
    }

    /// Has all that was written down carried out, and returns the replies: those of commands that wait, and
    /// of what follows them, are missing.
    pub fn ask(&mut self, server: &mut Server) -> &[u8] {
        self.reply.clear();
        let mut start = 0;
        loop {
            let (next, done) = server.turn(self.place, &mut self.parser, &self.request[start..]);
            start += done;
            self.reply.append(&mut server.clients.at(self.place).out);
            if next != Next::Send {
                break;
            }
        }
        self.request.drain(..start);
        &self.reply
    }
}
