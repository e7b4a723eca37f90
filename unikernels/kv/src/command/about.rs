//! `COMMAND`: what there is, and which arguments are keys.

use super::call::{Call, Command, Group, Keys, Outcome, flag};
use super::error::{Error, Result, shown};
use crate::glob;
use crate::number::parse_i64;
use alloc::format;
use alloc::vec::Vec;

impl Group {
    /// The name that `COMMAND DOCS` has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Generic => "generic",
            Self::String => "string",
            Self::Bitmap => "bitmap",
            Self::Hash => "hash",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "sorted-set",
            Self::Stream => "stream",
            Self::Geo => "geo",
            Self::HyperLogLog => "hyperloglog",
            Self::PubSub => "pubsub",
            Self::Transactions => "transactions",
        }
    }

    /// The category of access control that it is.
    fn category(self) -> &'static str {
        match self {
            Self::Generic => "@keyspace",
            Self::Server => "@admin",
            Self::SortedSet => "@sortedset",
            Self::Transactions => "@transaction",
            Self::Connection => "@connection",
            Self::String => "@string",
            Self::Bitmap => "@bitmap",
            Self::Hash => "@hash",
            Self::List => "@list",
            Self::Set => "@set",
            Self::Stream => "@stream",
            Self::Geo => "@geo",
            Self::HyperLogLog => "@hyperloglog",
            Self::PubSub => "@pubsub",
        }
    }
}

impl Keys {
    /// First, last and step, as `COMMAND` says them; the last counts from the end if it is negative.
    fn places(self) -> (i64, i64, i64) {
        match self {
            Self::Places(first, last, step) => (first.into(), last.into(), step.into()),
            Self::AndStored => (1, 1, 1),
            Self::Counted(_, before) if before > 0 => (before.into(), before.into(), 1),
            Self::None | Self::Counted(..) | Self::Streams => (0, 0, 0),
        }
    }

    /// Whether there may be several.
    pub fn are_many(self) -> bool {
        match self {
            Self::None | Self::AndStored => false,
            Self::Places(first, last, _) => first != last,
            Self::Counted(..) | Self::Streams => true,
        }
    }

    /// Which arguments are keys, the command's name being 0. `None` if the arguments make no sense.
    pub fn of(self, args: &[&[u8]]) -> Option<Vec<usize>> {
        match self {
            Self::None => Some(Vec::new()),
            Self::Places(first, last, step) => {
                let last = if last < 0 { args.len() as i64 + i64::from(last) } else { last.into() };
                let (first, last) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
                let places: Vec<usize> = (first..=last).step_by(step.unsigned_abs().into()).collect();
                places.iter().all(|place| *place < args.len()).then_some(places)
            }
            Self::Counted(count, before) => {
                let (count, before) = (usize::from(count), usize::from(before));
                let number =
                    usize::try_from(parse_i64(args.get(count)?)?).ok().filter(|number| *number > 0)?;
                let end = (count + 1).checked_add(number).filter(|end| *end <= args.len())?;
                Some((before > 0).then_some(before).into_iter().chain(count + 1..end).collect())
            }
            Self::Streams => {
                let word = args.iter().position(|word| word.eq_ignore_ascii_case(b"streams"))?;
                let count = args.len() - word - 1;
                (count > 0 && count.is_multiple_of(2)).then(|| (word + 1..=word + count / 2).collect())
            }
            Self::AndStored => {
                let store = args.iter().rposition(|word| word.eq_ignore_ascii_case(b"store"));
                let stored = store.map(|word| word + 1).filter(|place| *place > 2 && *place < args.len());
                Some([1].into_iter().chain(stored).collect())
            }
        }
    }
}

fn reply_about(call: &mut Call<'_>, command: &Command) {
    let reply = &mut call.reply;
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.into());
    let flags = flag::NAMES.iter().filter(|(bit, _)| command.has(*bit));
    reply.set(flags.clone().count());
    flags.for_each(|(_, name)| reply.simple(name));
    let (first, last, step) = command.keys.places();
    [first, last, step].into_iter().for_each(|number| reply.integer(number));
    let categories = [
        (command.has(flag::WRITE), "@write"),
        (command.has(flag::READONLY), "@read"),
        (true, command.group.category()),
        (command.has(flag::ADMIN), "@dangerous"),
        (command.has(flag::FAST), "@fast"),
        (!command.has(flag::FAST), "@slow"),
        (command.has(flag::BLOCKING), "@blocking"),
    ];
    let categories = categories.iter().filter(|(there, _)| *there);
    reply.set(categories.clone().count());
    categories.for_each(|(_, name)| reply.simple(name));
    // Tips, specifications of keys, subcommands: Redis has them since 7.0, and nobody needs them.
    reply.array(0);
    reply.array(0);
    reply.array(0);
}

const HELP: [&str; 14] = [
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "HELP",
];

/// `COMMAND` and its subcommands, of `all` commands.
pub fn command(call: &mut Call<'_>, all: impl Iterator<Item = &'static Command> + Clone) -> Result<Outcome> {
    let named = |name: &[u8]| all.clone().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()));
    let Some(sub) = call.args.get(1) else {
        call.reply.array(all.clone().count());
        all.for_each(|command| reply_about(call, command));
        return Ok(Outcome::Done);
    };
    match (sub.to_ascii_lowercase().as_slice(), call.args.len()) {
        (b"count", 2) => call.reply.count(all.count()),
        (b"help", 2) => {
            call.reply.array(HELP.len());
            HELP.iter().for_each(|line| call.reply.simple(line));
        }
        (b"info", 2) => {
            call.reply.array(all.clone().count());
            all.for_each(|command| reply_about(call, command));
        }
        (b"info", count) => {
            call.reply.array(count - 2);
            for name in call.args.from(2) {
                match named(name) {
                    Some(command) => reply_about(call, command),
                    None => call.reply.null_array(),
                }
            }
        }
        (b"docs", count) => {
            let listed: Vec<&Command> =
                if count == 2 { all.collect() } else { call.args.from(2).filter_map(named).collect() };
            call.reply.map(listed.len());
            for command in listed {
                call.reply.bulk(command.name.as_bytes());
                call.reply.map(1);
                call.reply.bulk(b"group");
                call.reply.bulk(command.group.name().as_bytes());
            }
        }
        (b"list", 2 | 5) => list(call, all)?,
        (b"getkeys", count @ 3..) => {
            let args: Vec<&[u8]> = call.args.from(2).take(count).collect();
            let command = named(args[0]).ok_or(Error::Text("ERR Invalid command specified"))?;
            if command.keys == Keys::None {
                return Err(Error::Text("ERR The command has no key arguments"));
            }
            if command.check_arity(args.len()).is_err() {
                return Err(Error::Text("ERR Invalid number of arguments specified for command"));
            }
            let refusal = Error::Text("ERR Invalid arguments specified for command");
            let keys = command.keys.of(&args).ok_or(refusal)?;
            call.reply.array(keys.len());
            keys.into_iter().for_each(|place| call.reply.bulk(args[place]));
        }
        (b"count" | b"help" | b"list" | b"getkeys", _) => {
            return Err(Error::Composed(format!(
                "ERR wrong number of arguments for 'command|{}' command",
                shown(sub)
            )));
        }
        _ => return Err(Error::UnknownSubcommand("command", shown(sub))),
    }
    Ok(Outcome::Done)
}

/// `COMMAND LIST`, all or those that a filter names.
fn list(call: &mut Call<'_>, all: impl Iterator<Item = &'static Command>) -> Result<()> {
    let filter = match call.args.len() {
        2 => None,
        _ if !call.arg(2).eq_ignore_ascii_case(b"filterby") => return Err(Error::Syntax),
        _ => Some((call.arg(3).to_ascii_lowercase(), call.arg(4))),
    };
    let mut names = Vec::new();
    for command in all {
        let fits = match &filter {
            None => true,
            Some((kind, pattern)) if kind == b"pattern" => glob::matches(pattern, command.name.as_bytes()),
            Some((kind, category)) if kind == b"aclcat" => {
                let own = command.group.category().as_bytes();
                own.get(1..).is_some_and(|own| own.eq_ignore_ascii_case(category))
            }
            // No command comes from a module.
            Some((kind, _)) if kind == b"module" => false,
            Some(_) => return Err(Error::Syntax),
        };
        if fits {
            names.push(command.name);
        }
    }
    call.reply.array(names.len());
    names.into_iter().for_each(|name| call.reply.bulk(name.as_bytes()));
    Ok(())
}
