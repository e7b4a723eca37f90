//! Frames of strangers.

use super::{config, remote};
use libos_net::Net;
use libos_net::link::{Frame, Link, wire};
use std::cell::RefCell;
use std::rc::Rc;

/// What a client sends to open a connection.
pub fn recorded_syn() -> Vec<u8> {
    let (one, mut two) = wire(16);
    let client = Net::new(one, &config(2)).unwrap();
    let executor = super::executor();
    let connecting = client.clone();
    executor.spawn(async move { connecting.connect(remote(7), &super::Small).await.map(drop) });
    let mut frames = Vec::new();
    // First it asks for the hardware address; somebody must answer.
    let other = Rc::new(RefCell::new(None));
    for _ in 0..10 {
        executor.run_ready();
        client.poll();
        while let Some(frame) = two.receive() {
            if frame[12..14] == [8, 6] && other.borrow().is_none() {
                let mut answer = frame.to_vec();
                answer[..6].copy_from_slice(&frame[6..12]);
                answer[6..12].copy_from_slice(&two.address());
                answer[21] = 2;
                answer[22..28].copy_from_slice(&two.address());
                answer[28..32].copy_from_slice(&frame[38..42]);
                answer[32..38].copy_from_slice(&frame[22..28]);
                answer[38..42].copy_from_slice(&frame[28..32]);
                two.send(Frame::from_bytes(&answer));
                *other.borrow_mut() = Some(());
            } else if frame[12..14] == [8, 0] {
                frames.push(frame.to_vec());
            }
        }
    }
    frames.into_iter().next().expect("a SYN")
}

/// Sums of 16-bit words as the Internet's checksum has them (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The SYN as if it came from another address and port.
pub fn from_another(syn: &[u8], number: u32) -> Frame {
    let mut bytes = syn.to_vec();
    bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[14 + 12..14 + 16].copy_from_slice(&(0x0a01_0000 + number % 60_000).to_be_bytes());
    bytes[34..36].copy_from_slice(&((1024 + number % 50_000) as u16).to_be_bytes());
    seal(&mut bytes);
    Frame::from_bytes(&bytes)
}

/// Makes the checksums of a frame right.
pub fn seal(bytes: &mut [u8]) {
    bytes[24..26].fill(0);
    let sum = checksum(&[&bytes[14..34]]);
    bytes[24..26].copy_from_slice(&sum);
    bytes[50..52].fill(0);
    let length = ((bytes.len() - 34) as u32).to_be_bytes();
    let sum = checksum(&[&bytes[26..34], &[0, 6], &length[2..], &bytes[34..]]);
    bytes[50..52].copy_from_slice(&sum);
}
