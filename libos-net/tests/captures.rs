//! What goes over a link, as a file that others read, and as text.

use crate::pair::{Pair, config, remote};
use embedded_io_async::{Read, Write};
use libos_net::link::{Capture, Trace, Watched, wire};
use libos_net::{Interactive, Net};
use std::cell::RefCell;
use std::process::Command;
use std::rc::Rc;

/// A file in memory.
#[derive(Clone, Default)]
struct File(Rc<RefCell<Vec<u8>>>);

impl embedded_io::ErrorType for File {
    type Error = core::convert::Infallible;
}

impl embedded_io::Write for File {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The capture and the text of a connection on which some bytes go both ways.
fn watched() -> (Vec<u8>, Vec<String>) {
    let (file, lines) = (File::default(), Rc::new(RefCell::new(Vec::new())));
    let (one, two) = wire(64);
    let capture = Capture::new(file.clone(), || 1_700_000_000_123_456_789).unwrap();
    let said = Rc::clone(&lines);
    let trace = Trace(move |text: std::fmt::Arguments<'_>| said.borrow_mut().push(text.to_string()));
    let pair = Pair::of(
        Net::new(Watched::new(one, capture), &config(1)).unwrap(),
        Net::new(Watched::new(two, trace), &config(2)).unwrap(),
    );
    let listener = pair.server.listen(7, 4, Interactive).unwrap();
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        let mut got = [0; 1000];
        stream.read_exact(&mut got).await.unwrap();
        stream.write_all(&got).await.unwrap();
    });
    let client = pair.client.clone();
    pair.run(async move {
        let mut stream = client.connect(remote(7), &Interactive).await.unwrap();
        stream.write_all(&[9; 1000]).await.unwrap();
        stream.read_exact(&mut [0; 1000]).await.unwrap();
    });
    drop(pair);
    let lines = lines.borrow().clone();
    let bytes = file.0.borrow().clone();
    (bytes, lines)
}

#[test]
fn a_trace_says_what_went_which_way() {
    let (_, lines) = watched();
    let syn =
        lines.iter().find(|line| line.starts_with("-> ") && line.contains(" syn ")).expect("a SYN goes out");
    assert!(syn.contains("10.0.0.2") && syn.contains("dst=7"), "{syn}");
    assert!(
        lines.iter().any(|line| line.starts_with("<- ") && line.contains("ARP")),
        "an answer by ARP comes"
    );
}

#[test]
fn tshark_reads_a_capture_and_finds_nothing_wrong() {
    let (bytes, lines) = watched();
    let test = "tshark_reads_a_capture_and_finds_nothing_wrong";
    let Some(tshark) = host_needs::program(test, "tshark") else { return };
    let path = std::env::temp_dir().join(format!("libos-net-{}.pcap", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let read = Command::new(tshark)
        .args(["-r", path.to_str().unwrap(), "-o", "tcp.check_checksum:TRUE", "-T", "fields"])
        .args(["-e", "frame.time_epoch", "-e", "tcp.checksum.status", "-e", "_ws.expert.message"])
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(read.stdout).unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(text.lines().count() + 2 >= lines.len() && text.lines().count() > 6, "{text}");
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        assert!(fields[0].starts_with("1700000000.123456789"), "{line}");
        // 1: good; none: no TCP.
        assert!(matches!(fields.get(1), None | Some(&"" | &"1")), "{line}");
        let complaint = fields.get(2).copied().unwrap_or_default().to_lowercase();
        assert!(!complaint.contains("malformed") && !complaint.contains("bad"), "{line}");
    }
}
