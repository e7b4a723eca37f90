//! Asks a key-value store: a client of `kv` in another environment, or of any other server of Redis's
//! protocol.

use crate::{Failure, internet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_core::{argument, println};
use libos_net::{IpAddress, IpEndpoint, Net, TcpStream};

/// Requests that are sent at once.
const AT_ONCE: u64 = 16;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Puts so many values of so many bytes into the store, reads them, and has the store end. Says how many were
/// not what they should be.
pub fn store(count: u64, bytes: usize) -> Result<(), Failure> {
    let from = match argument("from") {
        Some(text) => text.parse().map_err(|_| Failure::Word("from=A: an address"))?,
        None => IpAddress::v4(10, 0, 0, 1),
    };
    let remote = IpEndpoint::new(from, internet::port(6379)?);
    let (net, executor) = internet::open()?;
    let (own, tasks) = (net.clone(), executor.clone());
    let asked = net.run(&executor, async move { ask_all(&own, &tasks, remote, count, bytes).await });
    let wrong = asked.map_err(Failure::Stream)?;
    println!("{{\"network\":{{\"role\":\"store\",\"count\":{count},\"wrong\":{wrong}}}}}");
    if wrong > 0 { Err(Failure::Stream(format!("{wrong} wrong values"))) } else { Ok(()) }
}

fn value(number: u64, bytes: usize) -> String {
    format!("{number}.").chars().cycle().take(bytes).collect()
}

fn command(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| text += &format!("${}\r\n{word}\r\n", word.len()));
    text
}

async fn ask_all(
    net: &Net,
    executor: &Executor,
    remote: IpEndpoint,
    count: u64,
    bytes: usize,
) -> Result<u64, String> {
    net.address().await;
    let mut stream = internet::connect(net, executor, remote).await?;
    let mut wrong = 0;
    for first in (0..count).step_by(AT_ONCE as usize) {
        let (mut request, mut wanted) = (String::new(), String::new());
        for number in first..count.min(first + AT_ONCE) {
            let (key, value) = (format!("key:{number}"), value(number, bytes));
            request += &command(&["SET", &key, &value]);
            request += &command(&["GET", &key]);
            wanted += &format!("+OK\r\n${bytes}\r\n{value}\r\n");
        }
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let answer = executor.within(LIMIT, answer(&mut stream, wanted.len())).await;
        let answer = answer.unwrap_or_else(|| Err("no answer".into()))?;
        wrong += u64::from(answer != wanted.as_bytes());
    }
    stream.write_all(command(&["SHUTDOWN", "NOSAVE"]).as_bytes()).await.map_err(|error| error.to_string())?;
    Ok(wrong)
}

/// So many bytes.
async fn answer(stream: &mut TcpStream, bytes: usize) -> Result<Vec<u8>, String> {
    let mut all = vec![0; bytes];
    let mut end = 0;
    while end < bytes {
        match stream.read(&mut all[end..]).await.map_err(|error| error.to_string())? {
            0 => return Err("the server has closed the connection".into()),
            count => end += count,
        }
    }
    Ok(all)
}
