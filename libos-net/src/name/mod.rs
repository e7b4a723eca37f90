//! Names to addresses: a client of DNS (RFC 1035), by smoltcp's parsers.
//!
//! smoltcp has a client of its own. Its numbers and ports come from a generator that can be predicted, and
//! whoever predicts them answers in the resolver's place (RFC 5452). Here they come from a keyed hash.

mod message;

use crate::stack::Handle;
use crate::tcp::{ConnectError, TcpStream};
use crate::udp::UdpSocket;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{vec, vec::IntoIter};
use core::fmt;
use embedded_io_async::{Read, Write};
use message::{Answer, Question};
use smoltcp::wire::{DnsQueryType, IpAddress, IpEndpoint};

use crate::protocol::Interactive;

/// Port of DNS.
const PORT: u16 = 53;
/// How long the first question to a resolver waits for its answer; the second waits twice as long.
const PATIENCE_US: i64 = 1_500_000;
/// How often all resolvers are asked.
const ROUNDS: u32 = 2;
/// More than an answer without extensions has (RFC 1035, section 4.2.1).
const DATAGRAM_BYTES: usize = 1500;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// It can't be a name.
    NoName(String),
    /// Nobody is known who could be asked.
    NoResolver,
    /// There is no such name, or it has no address of a kind that this stack has.
    NotFound(String),
    /// Those who were asked can't say.
    Refused(String),
    /// Those who were asked have not answered.
    NoAnswer(String),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::NoName(name) => write!(f, "\"{name}\" is no name of a machine"),
            ResolveError::NoResolver => {
                f.write_str("nobody to ask for names: the network names none; say resolver=A")
            }
            ResolveError::NotFound(name) => write!(f, "there is no address of {name}"),
            ResolveError::Refused(name) => write!(f, "the resolver can't say the address of {name}"),
            ResolveError::NoAnswer(name) => write!(f, "no resolver answers for {name}"),
        }
    }
}

impl core::error::Error for ResolveError {}

/// Why there is no connection to a named machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectByNameError {
    /// Its address is not known.
    Resolve(ResolveError),
    /// None of its addresses can be connected to: what was wrong with the last.
    Connect(ConnectError),
}

impl fmt::Display for ConnectByNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectByNameError::Resolve(error) => error.fmt(f),
            ConnectByNameError::Connect(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConnectByNameError {}

/// The addresses of a name: those of IPv4 first. One that is written as an address is that.
pub(crate) async fn resolve(net: &Handle, name: &str) -> Result<Vec<IpAddress>, ResolveError> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let servers = net.stack().resolvers();
    if servers.is_empty() {
        return Err(ResolveError::NoResolver);
    }
    let mut found = Vec::new();
    let mut worst = None;
    let kinds = net.stack().kinds();
    for kind in kinds {
        match ask_all(net, &servers, name, kind).await {
            Ok(addresses) => found.extend(addresses),
            Err(error @ ResolveError::NoName(_)) => return Err(error),
            Err(error) => worst = Some(error),
        }
    }
    match worst {
        Some(error) if found.is_empty() => Err(error),
        _ if found.is_empty() => Err(ResolveError::NotFound(name.to_string())),
        _ => Ok(found),
    }
}

/// Connects to the first address of a name that answers.
pub(crate) async fn connect(
    addresses: IntoIter<IpAddress>,
    port: u16,
    mut connect: impl AsyncFnMut(IpEndpoint) -> Result<TcpStream, ConnectError>,
) -> Result<TcpStream, ConnectByNameError> {
    let mut last = ConnectByNameError::Resolve(ResolveError::NoResolver);
    for address in addresses {
        match connect(IpEndpoint::new(address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = ConnectByNameError::Connect(error),
        }
    }
    Err(last)
}

async fn ask_all(
    net: &Handle,
    servers: &[IpAddress],
    name: &str,
    kind: DnsQueryType,
) -> Result<Vec<IpAddress>, ResolveError> {
    let mut outcome = ResolveError::NoAnswer(name.to_string());
    for round in 0..ROUNDS {
        for server in servers {
            let number = net.stack().random() as u16;
            let no_name = || ResolveError::NoName(name.to_string());
            let question = Question::new(name, kind, number).ok_or_else(no_name)?;
            match ask(net, IpEndpoint::new(*server, PORT), &question, PATIENCE_US << round).await {
                Some(Answer::Addresses(addresses)) => return Ok(addresses),
                Some(Answer::NoSuchName) => return Err(ResolveError::NotFound(name.to_string())),
                Some(Answer::Refused) => outcome = ResolveError::Refused(name.to_string()),
                Some(Answer::Truncated) | None => {}
            }
        }
    }
    Err(outcome)
}

/// Asks one resolver once: by a datagram, and if the answer does not fit in one, by a connection.
async fn ask(net: &Handle, server: IpEndpoint, question: &Question, patience_us: i64) -> Option<Answer> {
    let due_us = net.now_us() + patience_us;
    let socket = UdpSocket::bind_any(net.clone()).ok()?;
    socket.send_to(question.bytes(), server).await.ok()?;
    let mut bytes = [0; DATAGRAM_BYTES];
    loop {
        let received = net.until(due_us, socket.receive_from(&mut bytes)).await?;
        // What comes from elsewhere, or answers another question, is somebody's attempt.
        let Ok((count, from)) = received else { continue };
        match (from == server).then(|| question.answer(&bytes[..count])).flatten() {
            Some(Answer::Truncated) => {
                return net.until(due_us, ask_by_stream(net, server, question)).await?;
            }
            Some(answer) => return Some(answer),
            None => {}
        }
    }
}

/// The same by TCP (RFC 7766): each message has its length before it.
async fn ask_by_stream(net: &Handle, server: IpEndpoint, question: &Question) -> Option<Answer> {
    let now_us = net.now_us();
    let id = net.stack().connect(server, &Interactive, now_us)?;
    let mut stream = TcpStream::new(net.clone(), id).established(server).await.ok()?;
    let length = u16::try_from(question.bytes().len()).ok()?;
    stream.write_all(&length.to_be_bytes()).await.ok()?;
    stream.write_all(question.bytes()).await.ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await.ok()?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).await.ok()?;
    question.answer(&bytes)
}
