//! A stream that nobody else reads.

use super::TlsError;
use alloc::vec::Vec;
use embedded_io_async::{ErrorType, Read, Write};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// Bytes of a record's contents at most (RFC 8446, section 5.1).
const MOST_AT_ONCE: usize = 16 * 1024;
/// What a record is longer than its contents.
const ABOUT_A_RECORD: usize = 64;
/// Bytes that may wait for the rest of a message: more than rustls lets a handshake have.
const MOST_INCOMING: usize = 128 * 1024;
/// Bytes asked of the stream below at once.
const ROOM: usize = 4096;

/// A stream over TLS, at the server's end. A read or write that is given up in the middle loses nothing: what
/// was taken is sent by the next one.
pub struct TlsStream<S> {
    stream: S,
    connection: UnbufferedServerConnection,
    /// Records that have come and are not looked into.
    incoming: Vec<u8>,
    /// What was in records, from `taken` on not read yet.
    plain: Vec<u8>,
    taken: usize,
    /// Records to be sent, from `sent` on not sent yet.
    outgoing: Vec<u8>,
    sent: usize,
    /// The other end has said that nothing more comes.
    is_finished: bool,
    /// Why it does not go on.
    failure: Option<rustls::Error>,
}

/// What is to be done next.
enum Step {
    /// The same again.
    Again,
    /// More has to come.
    Blocked,
    /// The handshake is over: more may come, or be written.
    Open,
    /// The bytes are a record among those to be sent.
    Written,
    /// Both ends have said that nothing more comes.
    Closed,
}

/// What a step is for.
enum Purpose<'w> {
    Progress,
    Write(&'w [u8]),
    Close,
}

impl<S: Read + Write> TlsStream<S> {
    pub(super) fn new(stream: S, connection: UnbufferedServerConnection) -> TlsStream<S> {
        TlsStream {
            stream,
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            sent: 0,
            is_finished: false,
            failure: None,
        }
    }

    /// The stream below. What is read from it or written to it breaks the protocol.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) async fn handshake(&mut self) -> Result<(), TlsError<S::Error>> {
        loop {
            match self.next(&Purpose::Progress) {
                Err(error) => return Err(self.failed(error).await),
                Ok(Step::Blocked) => {
                    self.send_all().await?;
                    self.take_more().await?;
                }
                Ok(Step::Open | Step::Closed) => return self.send_all().await,
                Ok(_) => {}
            }
        }
    }

    /// Says to the other end that nothing more will be written.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub async fn close(&mut self) -> Result<(), TlsError<S::Error>> {
        loop {
            match self.next(&Purpose::Close) {
                Err(error) => return Err(self.failed(error).await),
                Ok(Step::Again) => {}
                Ok(_) => {
                    self.send_all().await?;
                    return self.stream.flush().await.map_err(TlsError::Stream);
                }
            }
        }
    }

    /// Looks at what has come, or makes one record; after an error only that again.
    fn next(&mut self, purpose: &Purpose<'_>) -> Result<Step, rustls::Error> {
        self.failure.clone().map_or_else(|| self.step(purpose), Err)
    }

    fn step(&mut self, purpose: &Purpose<'_>) -> Result<Step, rustls::Error> {
        let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut self.incoming);
        let step = match state {
            Err(error) => Err(error),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut result = Ok(Step::Again);
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            self.plain.extend_from_slice(record.payload);
                        }
                        Err(error) => result = Err(error),
                    }
                }
                result
            }
            Ok(ConnectionState::EncodeTlsData(mut record)) => {
                append(&mut self.outgoing, 0, |into| match record.encode(into) {
                    Ok(bytes) => Ok(bytes),
                    Err(EncodeError::InsufficientSize(error)) => Err(Some(error.required_size)),
                    Err(EncodeError::AlreadyEncoded) => Err(None),
                });
                Ok(Step::Again)
            }
            Ok(ConnectionState::TransmitTlsData(records)) => {
                // They stand among those to be sent, which go before anything else is waited for.
                records.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match purpose {
                Purpose::Progress => Ok(Step::Open),
                Purpose::Write(bytes) => {
                    let made = append(&mut self.outgoing, bytes.len() + ABOUT_A_RECORD, |into| {
                        wanted(traffic.encrypt(bytes, into))
                    });
                    if made { Ok(Step::Written) } else { Err(rustls::Error::EncryptError) }
                }
                Purpose::Close => {
                    append(&mut self.outgoing, ABOUT_A_RECORD, |into| {
                        wanted(traffic.queue_close_notify(into))
                    });
                    Ok(Step::Written)
                }
            },
            Ok(ConnectionState::PeerClosed) => {
                self.is_finished = true;
                Ok(Step::Again)
            }
            Ok(ConnectionState::Closed) => {
                self.is_finished = true;
                Ok(Step::Closed)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
            // Early data is not asked for.
            Ok(_) => Err(rustls::Error::General("a state of TLS that was not asked for".into())),
        };
        self.incoming.drain(..discard.min(self.incoming.len()));
        step
    }

    /// Tells the other end what it has done, as far as it listens.
    async fn failed(&mut self, error: rustls::Error) -> TlsError<S::Error> {
        if self.failure.is_none() {
            self.failure = Some(error.clone());
            // The alert is a record to be made. After it nobody may look into what has come: it is damaged.
            let _ = self.step(&Purpose::Progress);
        }
        if self.send_all().await.is_ok() {
            let _ = self.stream.flush().await;
        }
        TlsError::Protocol(error)
    }

    async fn send_all(&mut self) -> Result<(), TlsError<S::Error>> {
        while self.sent < self.outgoing.len() {
            let bytes = self.stream.write(&self.outgoing[self.sent..]).await.map_err(TlsError::Stream)?;
            self.sent += bytes;
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(())
    }

    async fn take_more(&mut self) -> Result<(), TlsError<S::Error>> {
        let start = self.incoming.len();
        if start > MOST_INCOMING {
            return Err(TlsError::TooLong);
        }
        // If this is given up, nothing was taken.
        let mut room = [0; ROOM];
        match self.stream.read(&mut room).await.map_err(TlsError::Stream)? {
            0 => Err(TlsError::Truncated),
            bytes => {
                self.incoming.extend_from_slice(&room[..bytes]);
                Ok(())
            }
        }
    }
}

/// The size that is wanted, if that is what is missing.
fn wanted(result: Result<usize, EncryptError>) -> Result<usize, Option<usize>> {
    result.map_err(|error| match error {
        EncryptError::InsufficientSize(error) => Some(error.required_size),
        EncryptError::EncryptExhausted => None,
    })
}

/// Appends what `fill` makes in `room` bytes, or in as many as it asks for. Returns whether it made
/// something.
fn append(
    bytes: &mut Vec<u8>,
    room: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let start = bytes.len();
    let mut room = room;
    let mut made = None;
    for _ in 0..2 {
        bytes.resize(start + room, 0);
        match fill(&mut bytes[start..]) {
            Ok(count) => {
                made = Some(count);
                break;
            }
            Err(Some(wanted)) => room = wanted,
            Err(None) => break,
        }
    }
    bytes.truncate(start + made.unwrap_or(0));
    made.is_some()
}

impl<S: Read + Write> ErrorType for TlsStream<S> {
    type Error = TlsError<S::Error>;
}

impl<S: Read + Write> Read for TlsStream<S> {
    /// Reads what has come, as much as there is room for. 0 when the other end has said that it was all.
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let waiting = &self.plain[self.taken..];
            if !waiting.is_empty() {
                let bytes = waiting.len().min(into.len());
                into[..bytes].copy_from_slice(&waiting[..bytes]);
                self.taken += bytes;
                if self.taken == self.plain.len() {
                    self.plain.clear();
                    self.taken = 0;
                }
                return Ok(bytes);
            }
            if self.is_finished {
                return Ok(0);
            }
            match self.next(&Purpose::Progress) {
                Err(error) => return Err(self.failed(error).await),
                Ok(Step::Blocked | Step::Open) if self.plain.is_empty() && !self.is_finished => {
                    self.send_all().await?;
                    self.take_more().await?;
                }
                Ok(_) => {}
            }
        }
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    /// Takes as many bytes as a record has room for, and sends it.
    async fn write(&mut self, from: &[u8]) -> Result<usize, Self::Error> {
        if from.is_empty() {
            return Ok(0);
        }
        // What an earlier call has left.
        self.send_all().await?;
        let part = &from[..from.len().min(MOST_AT_ONCE)];
        loop {
            match self.next(&Purpose::Write(part)) {
                Err(error) => return Err(self.failed(error).await),
                Ok(Step::Again) => {}
                Ok(Step::Written) => {
                    self.send_all().await?;
                    return Ok(part.len());
                }
                Ok(Step::Blocked | Step::Open | Step::Closed) => return Err(TlsError::Truncated),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.send_all().await?;
        self.stream.flush().await.map_err(TlsError::Stream)
    }
}
