//! The commands: what they are called, and what each does.
//!
//! A function of a family gets a [`Call`], and replies into it. It judges its arguments before it changes
//! anything: an error takes back what it has written of a reply, but not what it has done. What it has done
//! is logged as it came, if it has changed anything and has not said otherwise ([`Call::log_instead`]).

mod about;
mod bitfield;
mod bits;
mod call;
mod claim;
mod combine;
mod error;
mod expiry;
mod generic;
mod geo;
mod group;
mod hash;
mod hyperloglog;
mod list;
mod range;
mod read;
mod scan;
mod server;
mod set;
mod sort;
mod sorted;
mod stream;
mod string;
mod subsequence;
mod transfer;

pub use call::{Call, Command, Effects, Group, Keys, Outcome, Run, Session, Wait, flag};
pub use error::{Error, Result, shown};

use crate::resp::{Arguments, Reply};
use crate::store::Store;
use alloc::vec;
use alloc::vec::Vec;

/// Those about commands.
const ABOUT: &[Command] =
    &[Command::data("command", -1, flag::LOADING | flag::STALE, Keys::None, Group::Server, |call| {
        about::command(call, FAMILIES.into_iter().flatten())
    })];

/// All commands, by family.
static FAMILIES: [&[Command]; 23] = [
    ABOUT,
    claim::COMMANDS,
    bitfield::COMMANDS,
    bits::COMMANDS,
    combine::COMMANDS,
    expiry::COMMANDS,
    generic::COMMANDS,
    geo::COMMANDS,
    group::COMMANDS,
    read::COMMANDS,
    stream::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    list::COMMANDS,
    range::COMMANDS,
    scan::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    sort::COMMANDS,
    sorted::COMMANDS,
    string::COMMANDS,
    subsequence::COMMANDS,
    transfer::COMMANDS,
];

/// Finds commands by their names.
#[derive(Debug)]
pub struct Index {
    /// A table with open addressing, at most a quarter full.
    places: Vec<Option<&'static Command>>,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An index of all commands.
    pub fn new() -> Self {
        let mut index = Self { places: vec![None; 1024] };
        for command in FAMILIES.into_iter().flatten() {
            let place = index.place(command.name.as_bytes());
            index.places[place] = Some(command);
        }
        index
    }

    /// All commands.
    pub fn all() -> impl Iterator<Item = &'static Command> {
        FAMILIES.into_iter().flatten()
    }

    /// The command of a name, in letters of either case.
    pub fn named(&self, name: &[u8]) -> Option<&'static Command> {
        self.places[self.place(name)]
    }

    /// The command that arguments call for.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or it wants another number of arguments.
    pub fn find(&self, args: &Arguments<'_>) -> Result<&'static Command> {
        let command = self.named(args.at(0)).ok_or_else(|| unknown(args))?;
        command.check_arity(args.len())?;
        Ok(command)
    }

    fn place(&self, name: &[u8]) -> usize {
        // FNV-1a over letters without their case.
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        });
        let mut place = (hash >> 20) as usize % self.places.len();
        while self.places[place].is_some_and(|command| !command.name.as_bytes().eq_ignore_ascii_case(name)) {
            place = (place + 1) % self.places.len();
        }
        place
    }
}

fn unknown(args: &Arguments<'_>) -> Error {
    // C's strings end at a zero byte.
    let text = |bytes: &[u8], most: usize| {
        let shown = &bytes[..bytes.len().min(most)];
        shown.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
    };
    let mut list = Vec::new();
    for argument in args.from(1) {
        if list.len() >= 128 {
            break;
        }
        let room = 128 - list.len();
        list.extend([b"'", &text(argument, room)[..], b"' "].concat());
    }
    let name = text(args.at(0), 128);
    Error::UnknownCommand(
        [b"ERR unknown command '", &name[..], b"', with args beginning with: ", &list].concat(),
    )
}

impl Command {
    /// Runs the command. The reply is appended to `out`, also if it is an error.
    pub fn run(
        &'static self,
        store: &mut Store,
        session: &mut Session,
        args: Arguments<'_>,
        now_ms: u64,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Outcome {
        let Run::Data(run) = self.run else { return Outcome::Server };
        let (start, changes) = (out.len(), effects.changes);
        let (database, protocol) = (session.database, session.protocol);
        let reply = Reply::new(out, protocol);
        let logged = false;
        let mut call = Call { command: self, args, store, session, reply, effects, now_ms, database, logged };
        match run(&mut call) {
            Ok(outcome) => {
                if call.effects.logging && !call.logged && call.effects.changes != changes {
                    args.write(&mut call.effects.log);
                }
                outcome
            }
            Err(error) => {
                call.reply.truncate(start);
                call.reply.error(&error.text());
                Outcome::Done
            }
        }
    }
}
