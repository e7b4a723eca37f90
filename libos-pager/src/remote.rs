//! Pages in the memory of another machine, by the protocol of Redis: any server that knows `MSET`, `MGET` and
//! `DEL` keeps them, `unikernels/kv` among them.

use crate::pager::{PageFailure, Pager, PagerError};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use embedded_io::{Read, Write};
use hyperexo_abi::{FRAME_BYTES, Page};

/// Remote memory over a stream of bytes (after M. J. Feeley et al., "Implementing global memory management in
/// a workstation cluster", SOSP 1995, without its management): page n of a region is the value of the key
/// `PREFIXn`.
///
/// The server must not evict: a page that is gone there is an error here. After an error of the stream, or a
/// reply that makes no sense, nothing more is sent: where a reply ends is not known any more.
pub struct Remote<S> {
    stream: S,
    prefix: String,
    held: Vec<bool>,
    broken: Option<PagerError>,
}

/// Bytes of a line of a reply, at most: type, number, end.
const LINE: usize = 256;

impl<S: Read + Write> Remote<S> {
    /// For a region of so many pages. `prefix` tells its keys from those of others.
    pub fn new(stream: S, prefix: &str, pages: u64) -> Remote<S> {
        Remote { stream, prefix: prefix.into(), held: alloc::vec![false; pages as usize], broken: None }
    }

    fn key(&self, page: u64) -> String {
        format!("{}{page}", self.prefix)
    }

    /// Sends a command: an array of bulk strings (RESP2).
    fn send(&mut self, words: &[&[u8]]) -> Result<(), PagerError> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend(b"\r\n");
        }
        self.stream.write_all(&bytes).and_then(|()| self.stream.flush()).map_err(|error| lost(&error))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), PagerError> {
        self.stream.read_exact(bytes).map_err(|error| lost(&error))
    }

    /// A line of a reply without its end.
    fn line(&mut self) -> Result<String, PagerError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() == LINE {
                return Err(PagerError::Other("remote memory: a reply without an end".into()));
            }
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        let line = String::from_utf8_lossy(&line).into_owned();
        match line.strip_prefix('-') {
            Some(refusal) => Err(PagerError::Other(format!("remote memory: the server says {refusal}"))),
            None => Ok(line),
        }
    }

    fn expect(&mut self, expected: &str) -> Result<(), PagerError> {
        let line = self.line()?;
        let unexpected = || PagerError::Other(format!("remote memory: {line:?} where {expected:?} was due"));
        (line == expected).then_some(()).ok_or_else(unexpected)
    }

    /// Does something, and nothing any more after a failure.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, PagerError>) -> Result<T, PagerError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let done = work(self);
        if let Err(error) = &done {
            self.broken = Some(error.clone());
        }
        done
    }

    fn fetch(&mut self, first: u64, pages: &mut [Box<Page>]) -> Result<(), PagerError> {
        let keys: Vec<String> = (first..).take(pages.len()).map(|page| self.key(page)).collect();
        let mut words: Vec<&[u8]> = alloc::vec![b"MGET"];
        words.extend(keys.iter().map(|key| key.as_bytes()));
        self.send(&words)?;
        self.expect(&format!("*{}", pages.len()))?;
        for page in pages {
            self.expect(&format!("${FRAME_BYTES}"))?;
            self.fill(&mut page.0)?;
            let mut end = [0; 2];
            self.fill(&mut end)?;
        }
        Ok(())
    }

    fn keep(&mut self, first: u64, pages: &[Box<Page>]) -> Result<(), PagerError> {
        let keys: Vec<String> = (first..).take(pages.len()).map(|page| self.key(page)).collect();
        let mut words: Vec<&[u8]> = alloc::vec![b"MSET"];
        for (key, page) in keys.iter().zip(pages) {
            words.extend([key.as_bytes(), &page.0[..]]);
        }
        self.send(&words)?;
        self.expect("+OK")
    }
}

fn lost(error: &impl core::fmt::Debug) -> PagerError {
    PagerError::Other(format!("remote memory: the connection is lost: {error:?}"))
}

impl<S: Read + Write> Pager for Remote<S> {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn holds(&self, page: u64) -> bool {
        self.held.get(page as usize).is_some_and(|held| *held)
    }

    fn most_pages(&self) -> usize {
        /// 64 KiB: about a window of TCP.
        const PAGES: usize = 16;
        PAGES
    }

    fn page_in(&mut self, first: u64, mut pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        match self.guarded(|remote| remote.fetch(first, &mut pages)) {
            Ok(()) => Ok(pages),
            Err(error) => Err(PageFailure { pages, error }),
        }
    }

    fn page_out(&mut self, first: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        match self.guarded(|remote| remote.keep(first, &pages)) {
            Ok(()) => {
                self.held[first as usize..][..pages.len()].fill(true);
                Ok(pages)
            }
            Err(error) => Err(PageFailure { pages, error }),
        }
    }

    /// The server keeps them until they are written again or the region ends: nobody waits for it here.
    fn discard(&mut self, pages: Range<u64>) {
        self.held[pages.start as usize..pages.end as usize].fill(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, VecDeque};
    use alloc::string::ToString;
    use alloc::vec;
    use core::convert::Infallible;

    /// A server at the end of a stream: takes whole commands, and can answer wrongly.
    #[derive(Default)]
    struct Server {
        values: BTreeMap<Vec<u8>, Vec<u8>>,
        replies: VecDeque<u8>,
        instead: Option<&'static [u8]>,
        commands: usize,
    }

    impl embedded_io::ErrorType for Server {
        type Error = Infallible;
    }

    impl Read for Server {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
            let count = buffer.len().min(self.replies.len());
            buffer.iter_mut().zip(self.replies.drain(..count)).for_each(|(to, from)| *to = from);
            Ok(count)
        }
    }

    impl Write for Server {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            self.commands += 1;
            let mut words = Vec::new();
            let mut rest = &bytes[bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1..];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\r') {
                let length: usize = core::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
                words.push(rest[end + 2..end + 2 + length].to_vec());
                rest = &rest[end + 2 + length + 2..];
            }
            let reply = match (&words[0][..], self.instead) {
                (_, Some(reply)) => reply.to_vec(),
                (b"MSET", _) => {
                    words[1..].chunks(2).for_each(|pair| {
                        self.values.insert(pair[0].clone(), pair[1].clone());
                    });
                    b"+OK\r\n".to_vec()
                }
                _ => {
                    let mut reply = format!("*{}\r\n", words.len() - 1).into_bytes();
                    for key in &words[1..] {
                        match self.values.get(key) {
                            None => reply.extend(b"$-1\r\n"),
                            Some(value) => {
                                reply.extend(format!("${}\r\n", value.len()).bytes());
                                reply.extend(value.iter().chain(b"\r\n"));
                            }
                        }
                    }
                    reply
                }
            };
            self.replies.extend(reply);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    fn page(byte: u8) -> Box<Page> {
        Box::new(Page([byte; FRAME_BYTES]))
    }

    #[test]
    fn pages_come_back_in_one_command_each_way() {
        let mut remote = Remote::new(Server::default(), "a:", 8);
        remote.page_out(2, vec![page(1), page(b'\r'), page(3)]).unwrap();
        assert!(remote.holds(4) && !remote.holds(5));
        let pages = remote.page_in(2, vec![page(0), page(0), page(0)]).unwrap();
        assert_eq!(pages.iter().map(|page| page.0[4095]).collect::<Vec<_>>(), [1, b'\r', 3]);
        assert_eq!((remote.stream.commands, remote.stream.values.len()), (2, 3));
        remote.discard(2..4);
        assert!(!remote.holds(2) && remote.holds(4));
    }

    #[test]
    fn a_server_that_fails_is_not_asked_again() {
        for (reply, text) in [
            (&b"-OOM no memory\r\n"[..], "the server says OOM"),
            (b"", "the connection is lost"),
            (b"*1\r\n$-1\r\n", "where"),
            (&[b'x'; 300], "without an end"),
        ] {
            let mut remote = Remote::new(Server::default(), "a:", 8);
            remote.page_out(0, vec![page(7)]).unwrap();
            remote.stream.instead = Some(reply);
            let failure = remote.page_in(0, vec![page(0)]).unwrap_err();
            assert!(failure.error.to_string().contains(text), "{}", failure.error);
            let failure = remote.page_out(1, vec![page(8)]).unwrap_err();
            assert_eq!((failure.pages[0].0[0], remote.stream.commands), (8, 2), "the page is given back");
        }
    }
}
