//! Takes and gives bytes by TCP, to measure how many a second there can be. The first byte of a client says
//! what is done until it has gone: `<` gives bytes without end, `>` takes them, `=` gives back what it takes
//! and then says what the stack and the link have counted. The peer on Linux is `linux-init`.

use crate::{Failure, internet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::sync::atomic::Ordering;
use embedded_io_async::{Read, Write};
use libos_core::{accounting, println};
use libos_net::{Bulk, Net, TcpError, TcpStream};

/// The port, unless the command line has another.
const PORT: u16 = 5001;
/// Bytes that are read or written at once.
const AT_ONCE: usize = 64 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

/// Serves all that come, until the machine ends.
pub fn streams() -> Result<(), Failure> {
    let port = internet::port(PORT)?;
    let (net, executor) = internet::open()?;
    let listener = net.listen(port, BACKLOG, Bulk).map_err(|error| Failure::Stream(error.to_string()))?;
    let (tasks, own) = (executor.clone(), net.clone());
    net.run(&executor, async move {
        println!("network: listening on {}:{port}", own.address().await.address());
        loop {
            let stream = listener.accept().await;
            // The client's end is the end.
            tasks.spawn(one(own.clone(), stream));
        }
    })
}

async fn one(net: Net, mut stream: TcpStream) -> Result<(), TcpError> {
    let mut bytes = vec![0; AT_ONCE];
    if stream.read(&mut bytes[..1]).await? == 0 {
        return Ok(());
    }
    match bytes[0] {
        b'<' => loop {
            stream.write(&bytes).await?;
        },
        b'>' => while stream.read(&mut bytes).await? > 0 {},
        b'=' => {
            while let count @ 1.. = stream.read(&mut bytes).await? {
                stream.write_all(&bytes[..count]).await?;
            }
            println!("{}", report(&net));
        }
        b'?' => stream.write_all(report(&net).as_bytes()).await?,
        _ => {}
    }
    Ok(())
}

/// What the stack and the link have counted: packets, bytes, bytes copied on the way between application and
/// link (`bytes_copied`, for those sent), and bytes copied between pages. Bytes received are copied twice
/// more by sockets. Under HyperExo the kernel has crossings and copies of its own.
fn report(net: &Net) -> String {
    let (stack, link, kernel) = (net.statistics(), net.link_statistics(), accounting());
    format!(
        "{{\"network\":{{\"role\":\"streams\",\"packets_received\":{},\"bytes_received\":{},\"packets_sent\":{},\
         \"bytes_sent\":{},\"bytes_gathered\":{},\"bytes_joined\":{},\"bytes_summed\":{},\"bytes_copied\":{},\
         \"bytes_copied_by_kernel\":{},\"exits\":{}}}}}",
        link.received,
        link.bytes_received,
        link.sent,
        link.bytes_sent,
        link.bytes_copied,
        stack.bytes_copied,
        link.bytes_summed,
        stack.tcp.bytes_copied,
        kernel.net_bytes_copied.load(Ordering::Relaxed),
        kernel.exits.iter().map(|counter| counter.load(Ordering::Relaxed)).sum::<u64>()
    )
}
