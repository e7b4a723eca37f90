//! The power goes at any moment while clients write with `appendfsync always`: nothing that was acknowledged
//! is lost, and nothing is there by half.

use crate::memory::{Client, Machine, now_ns};
use kv::server::{Clock, Config, Fsync, Server};
use libos_fs::device::fault::{Dice, PowerCut};
use libos_fs::{BlockDevice, CacheOptions, RamDisk, Volume, extent_fs};

const CLIENTS: usize = 4;
const ROUNDS: u64 = 40;
const LOG: &str = "/appendonly.aof";

fn server(disk: impl BlockDevice + 'static) -> Result<(Server, kv::log::Found), String> {
    let options = CacheOptions { blocks: 64, ..CacheOptions::default() };
    let volume = Volume::mount(Box::new(disk), options).map_err(|error| error.to_string())?;
    let config = Config { appendfsync: Fsync::Always, ..Config::default() };
    let mut server = Server::new(config, Clock::new(now_ns, 1_700_000_000_000), [1, 2, 3, 4, 5]);
    let found = server.open_log(&volume, LOG).map_err(|error| error.to_string())?;
    Ok((server, found))
}

/// A client that writes the numbers of its rounds, and knows which were acknowledged.
struct Writer {
    client: Client,
    number: usize,
    sent: u64,
    acknowledged: u64,
    replies: Vec<u8>,
}

/// What the server says to a round.
const ROUND: &[u8] = b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n";

impl Writer {
    /// One key alone, and two in a transaction, of which one is long.
    fn write(&mut self) {
        self.sent += 1;
        let (number, sent) = (self.number, self.sent);
        let long = format!("{sent}:").repeat(20 + 40 * number);
        let round = format!(
            "SET one:{number} {sent}\r\nMULTI\r\nSET two:{number} {sent}\r\nSET long:{number} {long}\r\nEXEC\r\n"
        );
        self.client.send(round.as_bytes());
    }

    fn listen(&mut self) {
        self.replies.extend(self.client.got());
        while self.replies.starts_with(ROUND) {
            self.replies.drain(..ROUND.len());
            self.acknowledged += 1;
        }
        assert!(ROUND.starts_with(&self.replies), "{}", String::from_utf8_lossy(&self.replies));
    }
}

/// Writes until the power goes, or to the end. How many rounds of each client were sent and acknowledged.
fn write(server: Server, dice: &mut Dice) -> Vec<(u64, u64)> {
    let machine = Machine::with(server);
    let client =
        |number| Writer { client: machine.client(), number, sent: 0, acknowledged: 0, replies: vec![] };
    let mut writers: Vec<Writer> = (0..CLIENTS).map(client).collect();
    let admin = machine.client();
    while machine.server.borrow().ending().is_none() && writers.iter().any(|writer| writer.sent < ROUNDS) {
        for writer in &mut writers {
            // Some write several rounds ahead, others wait.
            (0..dice.below(3)).filter(|_| true).for_each(|_| {
                if writer.sent < ROUNDS {
                    writer.write()
                }
            });
        }
        if dice.below(10) == 0 {
            admin.send(b"BGREWRITEAOF\r\n");
        }
        for _ in 0..dice.below(8) {
            machine.executor.run_ready();
        }
        writers.iter_mut().for_each(Writer::listen);
    }
    machine.settle();
    writers.iter_mut().for_each(Writer::listen);
    writers.iter().map(|writer| (writer.sent, writer.acknowledged)).collect()
}

fn value(machine: &Machine, client: &Client, key: &str) -> String {
    let got = machine.ask(client, &format!("GET {key}"));
    got.lines().nth(1).unwrap_or("0").to_owned()
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_there_by_half() {
    let empty = RamDisk::new(600);
    extent_fs::make(Box::new(empty.clone())).unwrap();
    let (mut cuts, mut rewrites, mut acknowledged_in_all) = (0, 0, 0);
    for seed in 0..6 {
        let (device, whole) = PowerCut::new(&empty, None, seed);
        let (first, _) = server(device).unwrap();
        let rounds = write(first, &mut Dice::new(seed));
        assert!(rounds.iter().all(|round| *round == (ROUNDS, ROUNDS)), "{rounds:?}");
        let mut dice = Dice::new(seed ^ 0xabc);
        for cut in 0..40 {
            let cut_after = dice.below(whole.written());
            let (device, power) = PowerCut::new(&empty, Some(cut_after), seed ^ cut << 8);
            let rounds = match server(device) {
                Ok((server, _)) => write(server, &mut Dice::new(seed)),
                Err(_) => vec![(0, 0); CLIENTS],
            };
            power.cut_now();
            let (server, found) = server(power.survivor()).unwrap();
            assert_eq!(found.torn, 0, "a commit is all or nothing");
            rewrites += u64::from(found.groups > 0 && found.commands < found.groups * 2);
            let machine = Machine::with(server);
            let client = machine.client();
            for (number, (sent, acknowledged)) in rounds.iter().enumerate() {
                let here = format!("seed {seed}, cut after {cut_after}, client {number}");
                let [one, two] =
                    ["one", "two"].map(|key| value(&machine, &client, &format!("{key}:{number}")));
                let [one, two]: [u64; 2] = [one, two].map(|text| text.parse().unwrap());
                assert!((*acknowledged..=*sent).contains(&one), "{here}: {one} of {acknowledged} to {sent}");
                assert!((*acknowledged..=*sent).contains(&two), "{here}: {two} of {acknowledged} to {sent}");
                assert!(two <= one && one <= two + 1, "{here}: {one} before {two}");
                let long = value(&machine, &client, &format!("long:{number}"));
                let expected = if two == 0 { "0".into() } else { format!("{two}:").repeat(20 + 40 * number) };
                assert_eq!(long, expected, "{here}: a transaction by half");
                acknowledged_in_all += acknowledged;
            }
            cuts += 1;
        }
    }
    println!("{cuts} cuts, {acknowledged_in_all} rounds acknowledged before them");
    assert!(cuts >= 200 && acknowledged_in_all > 5000, "{cuts} {acknowledged_in_all} {rewrites}");
}
