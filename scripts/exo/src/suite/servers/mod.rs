//! Servers on a tap device, asked by the programs that people use.
//!
//! | module | what |
//! |---|---|
//! | [`bulk`] | much data both ways |
//! | [`compared`] | both builds of the web server |
//! | [`clients`] | curl, ab, wrk, a browser; what tshark says of the packets |
//! | [`pressure`] | thousands of connections, clients that are slow on purpose, floods |
//! | [`store`] | the key-value store: redis-cli, redis-benchmark, the client library of Python |
//! | [`kills`] | the same, killed while it is written to |
//! | [`secret`] | HTTPS |
//! | [`neighbours`] | several servers on one card, and servers asked from beside them |

mod bulk;
mod clients;
mod compared;
mod kills;
mod neighbours;
mod pressure;
mod secret;
mod store;

use super::context::{Context, Printed, Said, text};
use super::{Test, Verdict};
use crate::error::{Error, Result};
use crate::host::tap::{MACHINE, TapNetwork};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    [
        bulk::tests(),
        clients::tests(),
        secret::tests(),
        compared::tests(),
        pressure::tests(),
        neighbours::tests(),
        store::tests(),
        kills::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a test's own code says that asks a server.
type Asked<T> = std::result::Result<T, String>;

/// Where the server is.
fn server() -> SocketAddr {
    SocketAddr::new(MACHINE.parse().expect("an address"), 80)
}

/// A connection to the server, which answers in time or not at all.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let limit = Duration::from_secs(20);
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

/// A volume with these files at its root.
fn site(context: &Context, name: &str, files: &[(&str, &[u8])]) -> Asked<PathBuf> {
    let (folder, image) =
        (context.scratch.path().join(name), context.scratch.path().join(format!("{name}.img")));
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for (file, content) in files {
        std::fs::write(folder.join(file), content).map_err(failed)?;
    }
    context.exo(&["fs", "make", "--size", "2M", "--from", &text(&folder), &text(&image)])?.succeeded()?;
    Ok(image)
}

/// Runs `httpd` with the files of an image, on a tap device in a namespace where `ask` is called as soon as
/// the server listens. Then the power button is pressed, and the server must end well.
fn served(
    context: &Context,
    image: &Path,
    machine: &[&str],
    words: &[&str],
    ask: impl FnOnce(&Printed) -> Asked<()> + Send,
) -> Asked<Said> {
    let network = TapNetwork::new().map_err(|error| error.to_string())?;
    let (net, disk, address) = (TapNetwork::net(), text(image), TapNetwork::word());
    let own = ["--net", &net, "--disk", &disk];
    let arguments = [&own[..], machine, &["httpd", "--", &address, "quiet=1"], words].concat();
    on_network(context, &network, &arguments, "httpd: listening on", ask)
}

/// Runs this, calls `ask` in the network as soon as the machine has printed these words, and presses the
/// power button.
fn on_network(
    context: &Context,
    network: &TapNetwork,
    arguments: &[&str],
    ready: &str,
    ask: impl FnOnce(&Printed) -> Asked<()> + Send,
) -> Asked<Said> {
    let said = network.within(|| {
        context.run_with_control(arguments, |control, printed| {
            printed.wait_for(ready)?;
            let asked = ask(printed).map_err(Error::Measurement);
            // If it has ended already, what was asked tells why.
            let pressed = control.press_power_button();
            asked.and(pressed)
        })
    })?;
    said.succeeded()
}

/// What a program prints that ends with success, in a minute at most.
fn output(program: &str, arguments: &[&str]) -> Asked<Vec<u8>> {
    let output = Command::new("timeout").arg("60").arg(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let end: Vec<&str> = said.lines().rev().take(4).collect();
    Err(format!("{program} {}: {}: {}", arguments.join(" "), output.status, end.join("; ")))
}

/// The same as text.
fn says(program: &str, arguments: &[&str]) -> Asked<String> {
    Ok(String::from_utf8_lossy(&output(program, arguments)?).into_owned())
}

/// An error unless it holds.
fn holds(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Fetches a small page by a new connection: whether the server still is one.
fn still_serves(address: SocketAddr, page: &str) -> Result<()> {
    use std::io::{Read, Write};
    let failed = |error: std::io::Error| Error::Measurement(format!("a further client: {error}"));
    let mut stream = connect(address).map_err(failed)?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(Error::Measurement(format!("a further client got {answer:?}")))
}
