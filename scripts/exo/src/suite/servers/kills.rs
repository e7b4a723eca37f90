//! QEMU is killed at any moment while clients write to the key-value store with `appendfsync=always`.

use super::{Asked, connect, holds};
use crate::error::Error;
use crate::host::tap::{MACHINE, TapNetwork};
use crate::suite::context::{Context, text};
use crate::suite::platform::Need;
use crate::suite::{Test, Verdict};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The tests.
pub fn tests() -> Vec<Test> {
    let direct = [Need::Tap, Need::KeptWrites, Need::Alone, Need::Qemu];
    let kernel = [Need::Tap, Need::KeptWrites, Need::Exokernel];
    vec![
        Test::new("kv-killed", &direct, |context| killed(context, 20)),
        Test::new("kv-killed-on-exokernel", &kernel, |context| killed(context, 4)),
    ]
}

/// Clients that write at the same time.
const CLIENTS: usize = 4;
/// Milliseconds from the first acknowledgement to the end of the machine, at most.
const LONGEST_MS: u64 = 400;

/// What a client knows of what it wrote.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// The round that was sent last.
    sent: u64,
    /// The last round that the store said was written.
    acknowledged: u64,
}

/// How often it is done: `HYPEREXO_KILLS`, or what CI has time for.
fn times(usual: u64) -> u64 {
    std::env::var("HYPEREXO_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// After each kill the store has all that was acknowledged, and nothing by half.
fn killed(context: &Context, usual: u64) -> Verdict {
    let image = context.scratch.path().join("killed.img");
    context.exo(&["fs", "make", "--size", "16M", &text(&image)])?.succeeded()?;
    let network = TapNetwork::new().map_err(|error| error.to_string())?;
    let mut written = [Written::default(); CLIENTS];
    // Another each time, the same in each run.
    let mut chance = 0x9e37_79b9_u64;
    let kills = times(usual);
    for kill in 0..kills {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_millis((chance >> 33) % LONGEST_MS);
        boot(context, &network, &image, &mut written, Some(after))
            .map_err(|why| format!("kill {kill} of {kills}, after {} ms: {why}", after.as_millis()))?;
    }
    boot(context, &network, &image, &mut written, None).map_err(|why| format!("after all kills: {why}"))?;
    let enough = written.iter().map(|one| one.acknowledged).sum::<u64>() >= kills;
    holds(enough, || format!("hardly anything was written: {written:?}"))
}

/// Boots, looks whether all is there, writes, and kills the machine after a while; with `None` it is only
/// looked.
fn boot(
    context: &Context,
    network: &TapNetwork,
    image: &Path,
    written: &mut [Written; CLIENTS],
    kill_after: Option<Duration>,
) -> Verdict {
    let (net, disk, address) = (TapNetwork::net(), text(image), TapNetwork::word());
    let words = ["appendonly=yes", "appendfsync=always", "auto-aof-rewrite-min-size=256kb"];
    let machine = ["--net", &net, "--disk", &disk, "--keep-writes", "kv", "--", &address];
    let arguments = [&machine[..], &words].concat();
    let said = network.within(|| {
        context.run_with_control(&arguments, |control, printed| {
            printed.wait_for("kv: listening on")?;
            let asked = look(written).and_then(|()| match kill_after {
                Some(after) => rewrite().and_then(|()| {
                    write_until(written, after, || control.kill().map_err(|error| error.to_string()))
                }),
                None => control.press_power_button().map_err(|error| error.to_string()),
            });
            asked.map_err(Error::Measurement)
        })
    })?;
    match kill_after {
        None => said.succeeded().map(drop),
        Some(_) => holds(!said.status.success(), || "a killed machine ended well".into()),
    }
}

fn server() -> SocketAddr {
    SocketAddr::new(MACHINE.parse().expect("an address"), 6379)
}

/// What the store has of each client.
fn look(written: &mut [Written; CLIENTS]) -> Verdict {
    let failed = |error: std::io::Error| format!("reading what was written: {error}");
    let mut stream = connect(server()).map_err(failed)?;
    for (number, known) in written.iter_mut().enumerate() {
        let request = format!("MGET one:{number} two:{number} long:{number}\r\n");
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut reader = BufReader::new(&stream);
        let [one, two, long] = array(&mut reader).map_err(failed)?;
        let round =
            |text: &str| text.split(':').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (first, second) = (round(&one), round(&two));
        let whole = long == if second == 0 { String::new() } else { long_value(number, second) };
        // Several rounds in a row may have been cut between the two.
        let in_order = first >= second;
        let kept = second >= known.acknowledged && first <= known.sent;
        holds(whole && in_order && kept, || {
            format!(
                "client {number}: it has sent {} rounds, {} were acknowledged; the store has {first} and {second}, \
                 whole: {whole}",
                known.sent, known.acknowledged
            )
        })?;
        *known = Written { sent: first, acknowledged: second };
    }
    Ok(())
}

/// Has the log written anew while clients write. So it stays small over many kills, some of which come in the
/// middle of that.
fn rewrite() -> Verdict {
    let failed = |error: std::io::Error| format!("having the log written anew: {error}");
    let mut stream = connect(server()).map_err(failed)?;
    stream.write_all(b"BGREWRITEAOF\r\n").map_err(failed)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).map_err(failed)?;
    holds(line.starts_with('+'), || format!("having the log written anew: {line}"))
}

/// The strings of an array of three.
fn array(reader: &mut impl BufRead) -> std::io::Result<[String; 3]> {
    let line = |reader: &mut dyn BufRead| {
        let mut line = String::new();
        reader.read_line(&mut line).map(|_| line.trim_end().to_owned())
    };
    let mut strings = [const { String::new() }; 3];
    line(reader)?;
    for string in &mut strings {
        let head = line(reader)?;
        if let Some(length) = head.strip_prefix('$').and_then(|length| length.parse::<usize>().ok()) {
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes)?;
            *string = String::from_utf8_lossy(&bytes[..length]).into_owned();
        }
    }
    Ok(strings)
}

/// A value of several blocks for the later clients.
fn long_value(number: usize, round: u64) -> String {
    format!("{round}:").repeat(20 + 700 * number)
}

/// What the store says to a round.
const ROUND: &[u8] = b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n";

/// All clients write, until somebody ends the machine.
fn write_until(
    written: &mut [Written; CLIENTS],
    after: Duration,
    end: impl FnOnce() -> Asked<()>,
) -> Verdict {
    let failed = |error: std::io::Error| format!("a client that writes: {error}");
    let streams: Result<Vec<TcpStream>, _> = (0..CLIENTS).map(|_| connect(server())).collect();
    let streams = streams.map_err(failed)?;
    let acknowledged = &AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writing: Vec<_> = streams
            .iter()
            .zip(written.iter_mut())
            .enumerate()
            .map(|(number, (stream, known))| scope.spawn(move || write(stream, number, known, acknowledged)))
            .collect();
        // However slow the machine is, something has been written by then.
        let limit = Instant::now() + Duration::from_secs(20);
        while acknowledged.load(Ordering::Relaxed) == 0 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(after);
        let ended = end();
        // Nobody answers any more, nor says that it is gone.
        streams.iter().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
        let replies = writing
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        replies.collect::<Asked<()>>().and(ended)
    })
}

/// Writes one key alone, and two in a transaction, of which one is long; round after round until the
/// connection ends. An error if the store replies anything else than that it did so.
fn write(mut stream: &TcpStream, number: usize, known: &mut Written, acknowledged: &AtomicU64) -> Verdict {
    loop {
        let round = known.sent + 1;
        let long = long_value(number, round);
        let request = format!(
            "SET one:{number} {round}\r\nMULTI\r\nSET two:{number} {round}\r\nSET long:{number} {long}\r\nEXEC\r\n"
        );
        known.sent = round;
        let mut reply = [0; ROUND.len()];
        if stream.write_all(request.as_bytes()).is_err() || stream.read_exact(&mut reply).is_err() {
            return Ok(());
        }
        holds(reply == ROUND, || format!("a reply: {}", String::from_utf8_lossy(&reply)))?;
        known.acknowledged = round;
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}
