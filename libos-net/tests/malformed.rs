//! A million frames that are as they must not be: the server goes on serving.
//!
//! `HYPEREXO_FRAMES=N` sends so many, `HYPEREXO_PCAPS=FOLDER` names a folder of captures to make
//! them of; otherwise that beside the checkout is taken, `shared/data/pcap`, where there is one.

use crate::pair::strangers::{from_another, recorded_syn, seal};
use crate::pair::{Pair, config, remote};
use embedded_io_async::{Read, Write};
use libos_net::link::{Frame, Link, Wire, wire};
use libos_net::{Config, Interactive, Ipv4, Ipv6, Net};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The frames of a capture (`pcap(5)`), of Ethernet only.
fn frames_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize, swapped: bool| {
        let word = bytes.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        word.map(|word| if swapped { word.swap_bytes() } else { word })
    };
    let swapped = match word(0, false) {
        Some(0xa1b2_c3d4) => false,
        Some(0xd4c3_b2a1) => true,
        _ => return Vec::new(),
    };
    if word(20, swapped) != Some(1) {
        return Vec::new();
    }
    let (mut at, mut frames) = (24, Vec::new());
    while let Some(length) = word(at + 8, swapped) {
        let Some(frame) = bytes.get(at + 16..at + 16 + length as usize) else { break };
        frames.push(frame.to_vec());
        at += 16 + length as usize;
    }
    frames
}

/// Frames of the captures, if there are any, and of our own.
fn corpus(test: &str) -> Vec<Vec<u8>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/pcap");
    let folder = std::env::var_os("HYPEREXO_PCAPS").map_or_else(beside, PathBuf::from);
    // Not in the name of the client: its numbers are those of this SYN, which strangers do not know.
    let mut frames = vec![from_another(&recorded_syn(), 1).to_vec()];
    if host_needs::file(test, &folder) {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let captured = files.iter().flat_map(|file| frames_of(&std::fs::read(file).unwrap()));
        frames.extend(captured.filter(|frame| (14..=1514).contains(&frame.len())));
        assert!(frames.len() > 1000, "{} frames of captures", frames.len());
    }
    frames
}

/// A wire on which somebody else sends malformed frames.
struct Noisy {
    below: Wire,
    corpus: Vec<Vec<u8>>,
    state: u64,
    left: Rc<Cell<u64>>,
}

impl Noisy {
    fn random(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state as usize
    }

    fn malformed(&mut self) -> Frame {
        let which = self.random() % self.corpus.len();
        let mut bytes = self.corpus[which].clone();
        let kind = self.random();
        if kind & 1 == 0 {
            bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        }
        for _ in 0..kind / 2 % 5 {
            let at = self.random() % bytes.len();
            bytes[at] = self.random() as u8;
        }
        let is_tcp4 = bytes.len() >= 54 && bytes[12..15] == [8, 0, 0x45] && bytes[23] == 6;
        if is_tcp4 && kind & 0x30 != 0 {
            // As if it were for us, and with checksums that are right: so it comes further.
            bytes[30..34].copy_from_slice(&[10, 0, 0, 1]);
            if kind & 0x40 != 0 {
                bytes[36..38].copy_from_slice(&7_u16.to_be_bytes());
            }
            seal(&mut bytes);
        }
        if kind & 0x300 == 0 {
            bytes.truncate(1 + self.random() % bytes.len());
        }
        Frame::from_bytes(&bytes)
    }
}

impl Link for Noisy {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn receive(&mut self) -> Option<Frame> {
        if self.random().is_multiple_of(32) || self.left.get() == 0 {
            return self.below.receive();
        }
        self.left.set(self.left.get() - 1);
        Some(self.malformed())
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        // What answers strangers is lost.
        if frame[..6] == [2, 0, 0, 0, 0, 2] || frame[0] & 1 == 1 {
            self.below.send(frame);
        }
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.below.wait(timeout);
    }
}

#[test]
fn malformed_frames_stop_nobody() {
    let most = std::env::var("HYPEREXO_FRAMES").map_or(1_000_000, |text| text.parse().expect("a number"));
    let corpus = corpus("malformed_frames_stop_nobody");
    for seed in 1..=2 {
        let (one, two) = wire(64);
        let left = Rc::new(Cell::new(most / 2));
        let noisy = Noisy { below: one, corpus: corpus.clone(), state: seed, left: Rc::clone(&left) };
        let server = Config { ipv6: Ipv6::Slaac, ..config(1) };
        let server = Config { ipv4: if seed == 1 { server.ipv4 } else { fixed() }, ..server };
        let pair = Pair::of(Net::new(noisy, &server).unwrap(), Net::new(two, &config(2)).unwrap());
        pair.serve_echo(8, Interactive);
        let mut served = 0;
        while left.get() > 0 {
            let (client, executor) = (pair.client.clone(), pair.executor.clone());
            pair.run(async move {
                let mut stream = client.connect(remote(7), &Interactive).await.unwrap();
                for number in 0..20 {
                    stream.write_all(&[number; 1000]).await.unwrap();
                    let mut got = [0; 1000];
                    stream.read_exact(&mut got).await.unwrap();
                    assert_eq!(got, [number; 1000], "seed {seed}");
                    executor.sleep(Duration::from_millis(1)).await;
                }
            });
            served += 1;
            let connections = pair.server.statistics().connections;
            assert!(connections < 8 + 300 + served, "seed {seed}: {connections} connections");
        }
        assert!(served > 5, "{served}");
    }
}

fn fixed() -> Ipv4 {
    Ipv4::Static { address: "10.0.0.1/8".parse().unwrap(), router: None }
}
