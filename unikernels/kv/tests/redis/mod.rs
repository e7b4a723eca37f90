//! The same random commands to `redis-server` and to this store: each must get the same reply, byte by byte.
//!
//! What may differ is compared by what matters: the order of what has none, and how much time is left. A run
//! that fails says its seed; `KV_SEED=N` repeats it, `KV_STEPS=N` makes it longer.

mod peer;
mod reply;
mod templates;
mod words;

use kv::command::{Effects, Index, Outcome, Session};
use kv::random::Random;
use kv::resp::{OwnedArguments, Protocol};
use kv::store::Store;
use peer::Peer;
use reply::Shape;
use std::time::{SystemTime, UNIX_EPOCH};

/// The store, as one client sees it.
struct Own {
    index: Index,
    store: Store,
    session: Session,
    effects: Effects,
}

impl Own {
    fn new(protocol: Protocol) -> Self {
        let session = Session { protocol, ..Session::default() };
        let effects = Effects { logging: true, ..Effects::default() };
        Self { index: Index::new(), store: Store::new([1, 2, 3]), session, effects }
    }

    fn ask(&mut self, words: &[Vec<u8>], now_ms: u64) -> Vec<u8> {
        let mut owned = OwnedArguments::default();
        words.iter().for_each(|word| owned.push(word));
        let (args, mut out) = (owned.arguments(), Vec::new());
        match self.index.find(&args) {
            Err(error) => kv::resp::Reply::new(&mut out, self.session.protocol).error(&error.text()),
            Ok(command) => {
                let outcome = command.run(
                    &mut self.store,
                    &mut self.session,
                    args,
                    now_ms,
                    &mut out,
                    &mut self.effects,
                );
                match outcome {
                    Outcome::Done => {}
                    Outcome::Wait(_) => kv::resp::Reply::new(&mut out, self.session.protocol).null_array(),
                    Outcome::Server => panic!("{words:?} is for the server"),
                }
            }
        }
        out
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis() as u64
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn shown(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| format!("{:?} ", String::from_utf8_lossy(word))).collect()
}

/// Asks both, and says where they differ.
fn compare(family: &str, templates: &[&str], protocol: Protocol, peer: &mut Peer, seed: u64, steps: u64) {
    let mut random = Random::new(seed);
    let mut own = Own::new(protocol);
    peer.ask(&[b"FLUSHALL".to_vec()]);
    let mut history: Vec<String> = Vec::new();
    for step in 0..steps {
        let words = words::command(templates, &mut random);
        history.push(shown(&words));
        let now_ms = now_ms();
        let theirs = peer.ask(&words);
        let ours = own.ask(&words, now_ms);
        if !Shape::of(&words).agree(&theirs, &ours) {
            let is_key = |word: &&Vec<u8>| word.len() == 2 && word[1].is_ascii_digit();
            let keys: Vec<String> =
                words.iter().filter(is_key).map(|word| shown(std::slice::from_ref(word))).collect();
            let about = history.iter().filter(|line| keys.iter().any(|key| line.contains(key)));
            let about: Vec<&String> = about.collect();
            let last = about[about.len().saturating_sub(40)..].iter().map(|line| format!("  {line}\n"));
            panic!(
                "{family}, KV_SEED={seed}, step {step}, {protocol:?}:\n{}  redis {}\n  ours  {}",
                last.collect::<String>(),
                theirs.escape_ascii(),
                ours.escape_ascii()
            );
        }
    }
}

/// What the log says, done again from nothing, gives what is there.
fn replay(family: &str, templates: &[&str], seed: u64, steps: u64) {
    let mut random = Random::new(seed);
    let mut own = Own::new(Protocol::Resp2);
    let mut log = Vec::new();
    for _ in 0..steps {
        let words = words::command(templates, &mut random);
        own.ask(&words, now_ms());
        log.append(&mut own.effects.log);
    }
    let mut again = Own::new(Protocol::Resp2);
    again.store.keep_expired = true;
    let mut parser = kv::resp::Parser::new();
    let mut rest = &log[..];
    while let Some(bytes) = parser.next(rest, kv::resp::Limits::FULL).expect("a log of commands") {
        let words: Vec<Vec<u8>> = parser.arguments(rest).from(0).map(<[u8]>::to_vec).collect();
        let reply = again.ask(&words, now_ms());
        assert!(!reply.starts_with(b"-"), "{}: {}", shown(&words), reply.escape_ascii());
        rest = &rest[bytes..];
    }
    assert!(rest.is_empty(), "{family}: the log ends within a command");
    let content = |own: &Own| {
        let mut all: Vec<String> = own
            .store
            .iter(0)
            .filter(|(at, ..)| !own.store.is_over(*at, now_ms()))
            .map(|(_, key, entry)| format!("{key:?} {:?} {}", entry.expires_ms, words::content(&entry.value)))
            .collect();
        all.sort();
        all
    };
    assert_eq!(content(&own), content(&again), "{family}, KV_SEED={seed}");
}

fn both(test: &str, family: &str) {
    let templates = templates::FAMILIES.iter().find(|(name, _)| *name == family).expect("a family").1;
    let steps = variable("KV_STEPS").unwrap_or(2000);
    let seeds = variable("KV_SEED").map_or(1..4, |seed| seed..seed + 1);
    seeds.clone().for_each(|seed| replay(family, templates, seed, steps));
    let Some(mut peer) = Peer::start(test) else { return };
    for seed in seeds {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            peer.ask(&[b"HELLO".to_vec(), if protocol == Protocol::Resp2 { b"2" } else { b"3" }.to_vec()]);
            compare(family, templates, protocol, &mut peer, seed, steps);
        }
    }
}

#[test]
fn strings_are_those_of_redis() {
    both("strings_are_those_of_redis", "strings");
}

#[test]
fn bits_are_those_of_redis() {
    both("bits_are_those_of_redis", "bits");
}

#[test]
fn keys_are_those_of_redis() {
    both("keys_are_those_of_redis", "keys");
}

#[test]
fn hashes_are_those_of_redis() {
    both("hashes_are_those_of_redis", "hashes");
}

#[test]
fn lists_are_those_of_redis() {
    both("lists_are_those_of_redis", "lists");
}

#[test]
fn sets_are_those_of_redis() {
    both("sets_are_those_of_redis", "sets");
}

#[test]
fn sorted_sets_are_those_of_redis() {
    both("sorted_sets_are_those_of_redis", "sorted sets");
}

#[test]
fn places_are_those_of_redis() {
    both("places_are_those_of_redis", "places");
}

#[test]
fn hyperloglogs_are_those_of_redis() {
    both("hyperloglogs_are_those_of_redis", "hyperloglogs");
}

#[test]
fn streams_are_those_of_redis() {
    both("streams_are_those_of_redis", "streams");
}
