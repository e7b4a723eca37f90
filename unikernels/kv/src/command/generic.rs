//! Keys, whatever they hold.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::glob;
use crate::store::DATABASES;
use crate::value::Value;
use alloc::format;

const ONE: Keys = Keys::Places(1, 1, 1);
const TWO: Keys = Keys::Places(1, 2, 1);
const ALL: Keys = Keys::Places(1, -1, 1);
const G: Group = Group::Generic;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("del", -2, WRITE, ALL, G, del),
    Command::data("unlink", -2, WRITE | FAST, ALL, G, del),
    Command::data("exists", -2, READONLY | FAST, ALL, G, exists),
    Command::data("touch", -2, READONLY | FAST, ALL, G, exists),
    Command::data("type", 2, READONLY | FAST, ONE, G, type_of),
    Command::data("rename", 3, WRITE, TWO, G, rename),
    Command::data("renamenx", 3, WRITE | FAST, TWO, G, rename),
    Command::data("copy", -3, WRITE | DENYOOM, TWO, G, copy),
    Command::data("move", 3, WRITE | FAST, ONE, G, move_key),
    Command::data("keys", 2, READONLY, Keys::None, G, keys),
    Command::data("randomkey", 1, READONLY, Keys::None, G, randomkey),
    Command::data("object", -2, READONLY, Keys::Places(2, 2, 1), G, object),
    Command::data("dbsize", 1, READONLY | FAST, Keys::None, Group::Server, dbsize),
    Command::data("flushdb", -1, WRITE, Keys::None, Group::Server, flush),
    Command::data("flushall", -1, WRITE, Keys::None, Group::Server, flush),
    Command::data("swapdb", 3, WRITE | FAST, Keys::None, Group::Server, swapdb),
];

fn del(call: &mut Call<'_>) -> Result<Outcome> {
    let mut removed = 0;
    for key in call.args.from(1) {
        if let Some(at) = call.find_quietly(key) {
            call.remove(at);
            removed += 1;
        }
    }
    call.reply.integer(removed);
    Ok(Outcome::Done)
}

fn exists(call: &mut Call<'_>) -> Result<Outcome> {
    let count = call.args.from(1).filter(|key| call.find(key).is_some()).count();
    call.reply.count(count);
    Ok(Outcome::Done)
}

fn type_of(call: &mut Call<'_>) -> Result<Outcome> {
    let at = call.find_quietly(call.arg(1));
    call.reply.simple(at.map_or("none", |at| call.store.value(at).type_name()));
    Ok(Outcome::Done)
}

/// Puts a value that was elsewhere under a key of a database, with an expiry.
fn put(call: &mut Call<'_>, database: u8, key: &[u8], value: Value, expires_ms: Option<u64>) {
    let at = call.store.insert(database, Bytes::from(key), value);
    call.store.set_expiry(at, expires_ms);
    call.effects.changes += 1;
    if call.effects.waiting {
        call.effects.ready.push((database, Bytes::from(key)));
    }
}

fn rename(call: &mut Call<'_>) -> Result<Outcome> {
    let only_new = call.command.name == "renamenx";
    let (from, to) = (call.arg(1), call.arg(2));
    let at = call.find_to_change(from).ok_or(Error::NoSuchKey)?;
    let target = call.find_quietly(to);
    if only_new && target.is_some() {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    if from != to {
        if let Some(target) = target {
            call.remove(target);
        }
        let (_, entry) = call.store.remove(at);
        put(call, call.database, to, entry.value, entry.expires_ms);
    }
    if only_new {
        call.reply.integer(1)
    } else {
        call.reply.ok()
    }
    Ok(Outcome::Done)
}

fn copy(call: &mut Call<'_>) -> Result<Outcome> {
    let (mut database, mut replace) = (call.database, false);
    let mut index = 3;
    while let Some(word) = call.args.get(index) {
        if word.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"db") && index + 1 < call.args.len() {
            index += 1;
            database = call.database_argument(index, "ERR DB index is out of range")?;
        } else {
            return Err(Error::Syntax);
        }
        index += 1;
    }
    let (from, to) = (call.arg(1), call.arg(2));
    if from == to && database == call.database {
        return Err(Error::Text("ERR source and destination objects are the same"));
    }
    let Some(at) = call.find(from) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let target = call.find_in(database, to);
    if target.is_some() && !replace {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    let entry = call.store.entry(at).clone();
    if let Some(target) = target {
        call.remove(target);
    }
    put(call, database, to, entry.value, entry.expires_ms);
    call.reply.integer(1);
    Ok(Outcome::Done)
}

fn move_key(call: &mut Call<'_>) -> Result<Outcome> {
    let database = call.database_argument(2, "ERR DB index is out of range")?;
    if database == call.database {
        return Err(Error::Text("ERR source and destination objects are the same"));
    }
    let key = call.arg(1);
    let at = call.find_to_change(key);
    let Some(at) = at.filter(|_| call.find_in(database, key).is_none()) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let (_, entry) = call.store.remove(at);
    put(call, database, key, entry.value, entry.expires_ms);
    call.reply.integer(1);
    Ok(Outcome::Done)
}

fn keys(call: &mut Call<'_>) -> Result<Outcome> {
    let pattern = call.arg(1);
    let (store, now_ms) = (&*call.store, call.now_ms);
    let later = call.reply.array_later();
    let mut count = 0;
    for (at, key, _) in store.iter(call.database) {
        if (pattern == b"*" || glob::matches(pattern, key)) && !store.is_over(at, now_ms) {
            call.reply.bulk(key);
            count += 1;
        }
    }
    call.reply.finish(later, count);
    Ok(Outcome::Done)
}

fn randomkey(call: &mut Call<'_>) -> Result<Outcome> {
    while let Some(at) = call.store.random_key(call.database) {
        let key = call.store.key(at).clone();
        if call.find_quietly(&key).is_some() {
            call.reply.bulk(&key);
            return Ok(Outcome::Done);
        }
    }
    call.reply.null();
    Ok(Outcome::Done)
}

const OBJECT_HELP: [&str; 11] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
];

fn object(call: &mut Call<'_>) -> Result<Outcome> {
    let sub = call.arg(1).to_ascii_lowercase();
    if sub == b"help" && call.args.len() == 2 {
        call.reply.array(OBJECT_HELP.len());
        OBJECT_HELP.iter().for_each(|line| call.reply.simple(line));
        return Ok(Outcome::Done);
    }
    let name = match sub.as_slice() {
        b"encoding" => "object|encoding",
        b"idletime" => "object|idletime",
        b"refcount" => "object|refcount",
        b"freq" => "object|freq",
        _ => return Err(Error::UnknownSubcommand("object", super::error::shown(call.arg(1)))),
    };
    if call.args.len() != 3 {
        return Err(Error::Arguments(name));
    }
    let Some(at) = call.find_quietly(call.arg(2)) else {
        call.reply.null();
        return Ok(Outcome::Done);
    };
    match sub.as_slice() {
        b"encoding" => call.reply.bulk(call.store.value(at).encoding().as_bytes()),
        b"refcount" => call.reply.integer(1),
        b"freq" => {
            return Err(Error::Text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
                 when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        _ => {
            let used_s = u64::from(call.store.entry(at).accessed_s);
            call.reply.integer((call.now_ms / 1000).saturating_sub(used_s) as i64);
        }
    }
    Ok(Outcome::Done)
}

fn dbsize(call: &mut Call<'_>) -> Result<Outcome> {
    call.reply.count(call.store.len(call.database));
    Ok(Outcome::Done)
}

fn flush(call: &mut Call<'_>) -> Result<Outcome> {
    match call.args.get(1) {
        None => {}
        Some(word) if word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync") => {}
        Some(_) => return Err(Error::Syntax),
    }
    if call.args.len() > 2 {
        return Err(Error::Syntax);
    }
    let databases = match call.command.name {
        "flushall" => 0..DATABASES as u8,
        _ => call.database..call.database + 1,
    };
    for database in databases {
        call.effects.changes += call.store.len(database) as u64;
        call.store.flush(database);
    }
    // It is logged though nothing was there: whoever reads the log may have had something.
    call.effects.changes += 1;
    call.reply.ok();
    Ok(Outcome::Done)
}

fn swapdb(call: &mut Call<'_>) -> Result<Outcome> {
    let number = |index, which: &str| {
        let number = call.integer(index);
        number.map_err(|_| Error::Composed(format!("ERR invalid {which} DB index")))
    };
    let numbers = [number(1, "first")?, number(2, "second")?];
    let mut databases = [0; 2];
    for (database, number) in databases.iter_mut().zip(numbers) {
        let known = u8::try_from(number).ok().filter(|number| usize::from(*number) < DATABASES);
        *database = known.ok_or(Error::Text("ERR DB index is out of range"))?;
    }
    call.store.swap(databases[0], databases[1]);
    call.effects.changes += 1;
    if call.effects.waiting {
        // Whoever waits for a key of one of them may have it now.
        for database in databases {
            let keys = call.store.iter(database).map(|(_, key, _)| (database, key.clone()));
            call.effects.ready.extend(keys);
        }
    }
    call.reply.ok();
    Ok(Outcome::Done)
}
