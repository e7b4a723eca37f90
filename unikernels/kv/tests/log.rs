//! The log: every kind of value comes back from it, what is damaged in it is refused, and many clients who
//! write at once are all answered.

use crate::memory::{Machine, now_ns};
use kv::server::{Clock, Config, Fsync, Server};
use libos_fs::{CacheOptions, RamDisk, Volume, extent_fs};

const LOG: &str = "/appendonly.aof";

fn volume(disk: &RamDisk) -> Volume {
    let options = CacheOptions { blocks: 64, ..CacheOptions::default() };
    Volume::mount(Box::new(disk.clone()), options).unwrap()
}

fn disk() -> RamDisk {
    let disk = RamDisk::new(4096);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    disk
}

fn open(volume: &Volume) -> Result<(Server, kv::log::Found), kv::log::LogError> {
    let config = Config { appendfsync: Fsync::Always, ..Config::default() };
    let mut server = Server::new(config, Clock::new(now_ns, 1_700_000_000_000), [1, 2, 3, 4, 5]);
    let found = server.open_log(volume, LOG)?;
    Ok((server, found))
}

/// As `redis-benchmark -c 50 -P 16` asks.
#[test]
fn fifty_clients_with_pipelines_are_all_answered() {
    let machine = Machine::with(open(&volume(&disk())).unwrap().0);
    let clients: Vec<_> = (0..50).map(|_| machine.client()).collect();
    for command in [
        "LPUSH mylist VXK",
        "RPUSH mylist VXK",
        "SET key:1 VXK",
        "INCR counter:1",
        "LPOP mylist",
        "RPOP mylist",
        "SADD myset element:1",
        "HSET myhash element:1 VXK",
        "SPOP myset",
        "ZADD myzset 1 element:1",
        "MSET key:1 VXK key:2 VXK",
    ] {
        let pipeline = format!("{command}\r\n").repeat(16);
        for round in 0..20 {
            clients.iter().for_each(|client| client.send(pipeline.as_bytes()));
            machine.settle();
            for (number, client) in clients.iter().enumerate() {
                let got = client.got();
                let replies = String::from_utf8(got).unwrap();
                let count =
                    replies.lines().filter(|line| line.starts_with(['+', ':', '$', '-', '*'])).count();
                assert_eq!(count, 16, "{command}, round {round}, client {number}: {replies}");
                assert!(!replies.starts_with('-'), "{replies}");
            }
        }
    }
}

/// Commands that make a value of each kind, and such that show it.
const VALUES: [(&str, &str); 9] = [
    ("SET string a\u{e9}b", "GET string"),
    ("SETBIT bits 1000 1", "BITCOUNT bits"),
    ("RPUSH list a b c d", "LRANGE list 0 -1"),
    ("HSET hash f 1 g 2", "HMGET hash f g"),
    ("SADD set x", "SMEMBERS set"),
    ("ZADD sorted 1.5 a -inf b 3 c", "ZRANGE sorted 0 -1 WITHSCORES"),
    ("XADD stream 5-1 f v", "XRANGE stream - +"),
    ("PFADD hll a b c", "PFCOUNT hll"),
    ("SET late 1 PXAT 1700009999000", "PEXPIRETIME late"),
];

fn shown(machine: &Machine) -> Vec<String> {
    let client = machine.client();
    VALUES.iter().map(|(_, show)| machine.ask(&client, show)).collect()
}

#[test]
fn every_kind_of_value_comes_back_from_the_log_and_from_a_rewrite() {
    let disk = disk();
    let machine = Machine::with(open(&volume(&disk)).unwrap().0);
    let client = machine.client();
    for (make, _) in VALUES {
        let reply = machine.ask(&client, make);
        assert!(!reply.starts_with('-'), "{make}: {reply}");
    }
    machine.ask(&client, "SELECT 3\r\nSET elsewhere 1");
    let before = shown(&machine);
    drop((machine, client));
    let again = Machine::with(open(&volume(&disk)).unwrap().0);
    assert_eq!(shown(&again), before, "from the log");
    let client = again.client();
    again.ask(&client, "BGREWRITEAOF");
    again.pass_ms(2000);
    assert!(again.ask(&client, "INFO persistence").contains("aof_rewrite_in_progress:0"));
    drop((again, client));
    let rewritten = Machine::with(open(&volume(&disk)).unwrap().0);
    assert_eq!(shown(&rewritten), before, "from a rewrite");
    let client = rewritten.client();
    assert_eq!(rewritten.ask(&client, "SELECT 3\r\nGET elsewhere"), "+OK\r\n$1\r\n1\r\n");
}

/// A log of three groups, and its bytes.
fn three_groups() -> (RamDisk, Vec<u8>) {
    let disk = disk();
    let machine = Machine::with(open(&volume(&disk)).unwrap().0);
    let client = machine.client();
    for number in 1..4 {
        assert_eq!(machine.ask(&client, &format!("SET key {number}")), "+OK\r\n");
    }
    drop((machine, client));
    let mounted = volume(&disk);
    let file = mounted.open(LOG).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    (disk, bytes)
}

#[test]
fn a_log_that_ends_anywhere_is_read_to_its_last_whole_group() {
    let (disk, bytes) = three_groups();
    let mut last = 3;
    for length in (0..bytes.len()).rev() {
        let mounted = volume(&disk);
        mounted.open(LOG).unwrap().truncate(length as u64).unwrap();
        mounted.commit().unwrap();
        let (server, found) = open(&mounted).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        assert!(found.whole + found.torn <= length as u64, "{length} bytes: {found:?}");
        let machine = Machine::with(server);
        let got = machine.ask(&machine.client(), "GET key");
        let number = got.lines().nth(1).unwrap_or("0").parse::<u32>().unwrap();
        assert!(number <= last, "{length} bytes: {number} after {last}");
        last = number;
    }
    assert_eq!(last, 0);
}

#[test]
fn a_byte_that_is_wrong_before_the_end_is_refused() {
    let (disk, bytes) = three_groups();
    let mounted = volume(&disk);
    let (mut refused, mut cut) = (0, 0);
    for at in 0..bytes.len() {
        let file = mounted.open(LOG).unwrap();
        file.truncate(0).unwrap();
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        file.write_at(0, &wrong).unwrap();
        match open(&mounted) {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(LOG), "{error}");
            }
            // The last group alone may have been torn: then what was before it is there.
            Ok((server, found)) => {
                cut += 1;
                let machine = Machine::with(server);
                let got = machine.ask(&machine.client(), "GET key");
                assert!(got == "$1\r\n2\r\n" || got == "$1\r\n3\r\n", "byte {at}: {got}, {found:?}");
            }
        }
    }
    assert!(refused > bytes.len() / 2, "{refused} refused, {cut} cut, of {}", bytes.len());
}
