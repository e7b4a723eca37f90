//! Replies, in RESP2 or RESP3.

use super::Arguments;
use crate::number::{format_f64, write_i64};
use alloc::vec::Vec;

/// What a client understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Strings, errors, integers, bulk strings, arrays.
    #[default]
    Resp2,
    /// The same, and null, doubles, booleans, maps, sets, pushes.
    Resp3,
}

/// Where replies are written: the end of a vector.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

/// The place of an aggregate whose length is known later.
#[derive(Debug)]
#[must_use]
pub struct Later {
    kind: u8,
    at: usize,
}

impl<'a> Reply<'a> {
    /// Replies at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The protocol that is written.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Changes the protocol for what follows.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Bytes that are written so far, with those that were there before.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written from a position on.
    pub fn truncate(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// Appends what is written in the protocol already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// `+OK`
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A simple string, which has no ends of lines in it.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }

    /// An error: its code, a space, and the rest. Ends of lines in it become spaces.
    pub fn error(&mut self, text: &[u8]) {
        self.out.push(b'-');
        self.out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.raw(b"\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            _ => self.header(b':', value),
        }
    }

    /// A count.
    pub fn count(&mut self, value: usize) {
        self.integer(value as i64);
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len() as i64);
        self.raw(bytes);
        self.raw(b"\r\n");
    }

    /// A bulk string, or null.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// An integer in a bulk string.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut text = Vec::with_capacity(20);
        write_i64(value, &mut text);
        self.bulk(&text);
    }

    /// Null, where a bulk string could be.
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// Nothing was there to choose from: an empty array if several were asked for, else null.
    pub fn none_of(&mut self, several: bool) {
        if several { self.array(0) } else { self.null() }
    }

    /// Null, where an array could be.
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"*-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// An array of so many elements, which follow.
    pub fn array(&mut self, elements: usize) {
        self.header(b'*', elements as i64);
    }

    /// A map of so many pairs, which follow. To RESP2 an array of twice as many.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', 2 * pairs as i64),
            Protocol::Resp3 => self.header(b'%', pairs as i64),
        }
    }

    /// A set of so many members, which follow. To RESP2 an array.
    pub fn set(&mut self, members: usize) {
        self.header(if self.protocol == Protocol::Resp3 { b'~' } else { b'*' }, members as i64);
    }

    /// A message that nobody asked for. To RESP2 an array.
    pub fn push(&mut self, elements: usize) {
        self.header(if self.protocol == Protocol::Resp3 { b'>' } else { b'*' }, elements as i64);
    }

    /// A floating-point number. To RESP2 a bulk string.
    pub fn double(&mut self, value: f64) {
        let text = format_f64(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.out.push(b',');
                self.raw(text.as_bytes());
                self.raw(b"\r\n");
            }
        }
    }

    /// A truth value. To RESP2 an integer.
    pub fn boolean(&mut self, value: bool) {
        match (self.protocol, value) {
            (Protocol::Resp2, value) => self.integer(i64::from(value)),
            (Protocol::Resp3, true) => self.raw(b"#t\r\n"),
            (Protocol::Resp3, false) => self.raw(b"#f\r\n"),
        }
    }

    /// A text for people. To RESP2 a bulk string.
    pub fn verbatim(&mut self, text: &[u8]) {
        if self.protocol == Protocol::Resp2 {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as i64 + 4);
        self.raw(b"txt:");
        self.raw(text);
        self.raw(b"\r\n");
    }

    /// An array whose length is said later, by [`Reply::finish`].
    pub fn array_later(&mut self) -> Later {
        Later { kind: b'*', at: self.out.len() }
    }

    /// A map whose number of pairs is said later, by [`Reply::finish`].
    pub fn map_later(&mut self) -> Later {
        Later { kind: b'%', at: self.out.len() }
    }

    /// A set whose length is said later, by [`Reply::finish`].
    pub fn set_later(&mut self) -> Later {
        Later { kind: b'~', at: self.out.len() }
    }

    /// Says how many elements or pairs an aggregate has, which were written meanwhile.
    pub fn finish(&mut self, later: Later, elements: usize) {
        let end = self.out.len();
        match later.kind {
            b'%' => self.map(elements),
            b'~' => self.set(elements),
            _ => self.array(elements),
        }
        let header = self.out.len() - end;
        self.out[later.at..].rotate_right(header);
    }

    /// Writes a bulk string before what was written from a position on.
    pub fn insert_bulk(&mut self, position: usize, bytes: &[u8]) {
        let end = self.out.len();
        self.bulk(bytes);
        let length = self.out.len() - end;
        self.out[position..].rotate_right(length);
    }

    fn header(&mut self, kind: u8, value: i64) {
        self.out.push(kind);
        write_i64(value, self.out);
        self.raw(b"\r\n");
    }
}

/// Appends a command as a client would send it.
pub fn write_command<'a>(out: &mut Vec<u8>, arguments: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut reply = Reply::new(out, Protocol::Resp2);
    reply.array(arguments.len());
    arguments.for_each(|argument| reply.bulk(argument));
}

impl Arguments<'_> {
    /// Appends the command as a client would send it.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_command(out, self.from(0));
    }
}
