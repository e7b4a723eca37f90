//! A server that takes and gives bytes without end, to measure how many a second there can be.

use linux_init::{GIVE, TAKE};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;

/// Bytes that are read or written at once.
const AT_ONCE: usize = 256 * 1024;

/// Serves all that come, until the machine ends.
pub fn serve(port: Option<String>) -> ExitCode {
    let Some(port) = port.and_then(|text| text.parse::<u16>().ok()) else {
        eprintln!("streams: a port is wanted");
        return ExitCode::from(2);
    };
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("streams: port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    for stream in listener.incoming().flatten() {
        // The client's end is the end.
        std::thread::spawn(move || one(stream));
    }
    ExitCode::SUCCESS
}

fn one(mut stream: TcpStream) -> std::io::Result<()> {
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    let mut bytes = vec![0; AT_ONCE];
    match wish[0] {
        GIVE => loop {
            stream.write_all(&bytes)?;
        },
        TAKE => while stream.read(&mut bytes)? > 0 {},
        _ => {}
    }
    Ok(())
}
