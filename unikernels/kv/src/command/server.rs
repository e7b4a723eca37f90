//! Commands that the server runs, and those about commands.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::Result;

const CALM: u32 = NOSCRIPT | LOADING | STALE;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::server("auth", -2, CALM | FAST | NO_AUTH, Keys::None, Group::Connection),
    Command::server("hello", -1, CALM | FAST | NO_AUTH, Keys::None, Group::Connection),
    Command::server("quit", -1, CALM | FAST | NO_AUTH, Keys::None, Group::Connection),
    Command::server("reset", 1, CALM | FAST | NO_AUTH, Keys::None, Group::Connection),
    Command::server("client", -2, CALM, Keys::None, Group::Connection),
    Command::server("config", -2, CALM | ADMIN, Keys::None, Group::Server),
    Command::server("info", -1, LOADING | STALE, Keys::None, Group::Server),
    Command::server("debug", -2, CALM | ADMIN, Keys::None, Group::Server),
    Command::server("memory", -2, READONLY, Keys::None, Group::Server),
    Command::server("latency", -2, CALM | ADMIN, Keys::None, Group::Server),
    Command::server("slowlog", -2, LOADING | STALE | ADMIN, Keys::None, Group::Server),
    Command::server("monitor", 1, CALM | ADMIN, Keys::None, Group::Server),
    Command::server("save", 1, NOSCRIPT | ADMIN | NO_MULTI, Keys::None, Group::Server),
    Command::server("bgsave", -1, NOSCRIPT | ADMIN, Keys::None, Group::Server),
    Command::server("bgrewriteaof", 1, NOSCRIPT | ADMIN, Keys::None, Group::Server),
    Command::server("lastsave", 1, LOADING | STALE | FAST, Keys::None, Group::Server),
    Command::server("shutdown", -1, CALM | ADMIN | NO_MULTI, Keys::None, Group::Server),
    Command::server("role", 1, CALM | FAST, Keys::None, Group::Server),
    Command::server("replicaof", 3, CALM | ADMIN, Keys::None, Group::Server),
    Command::server("wait", 3, NOSCRIPT, Keys::None, Group::Generic),
    Command::server("acl", -2, CALM, Keys::None, Group::Server),
    Command::server("multi", 1, CALM | FAST | AT_ONCE, Keys::None, Group::Transactions),
    Command::server("exec", 1, CALM | AT_ONCE, Keys::None, Group::Transactions),
    Command::server("discard", 1, CALM | FAST | AT_ONCE, Keys::None, Group::Transactions),
    Command::server(
        "watch",
        -2,
        CALM | FAST | NO_MULTI | AT_ONCE,
        Keys::Places(1, -1, 1),
        Group::Transactions,
    ),
    Command::server("unwatch", 1, CALM | FAST, Keys::None, Group::Transactions),
    Command::server("subscribe", -2, CALM | PUBSUB, Keys::None, Group::PubSub),
    Command::server("unsubscribe", -1, CALM | PUBSUB, Keys::None, Group::PubSub),
    Command::server("psubscribe", -2, CALM | PUBSUB, Keys::None, Group::PubSub),
    Command::server("punsubscribe", -1, CALM | PUBSUB, Keys::None, Group::PubSub),
    Command::server("ssubscribe", -2, CALM | PUBSUB, Keys::Places(1, -1, 1), Group::PubSub),
    Command::server("sunsubscribe", -1, CALM | PUBSUB, Keys::Places(1, -1, 1), Group::PubSub),
    Command::server("publish", 3, LOADING | STALE | FAST | PUBSUB, Keys::None, Group::PubSub),
    Command::server("spublish", 3, LOADING | STALE | FAST | PUBSUB, Keys::Places(1, 1, 1), Group::PubSub),
    Command::server("pubsub", -2, LOADING | STALE | PUBSUB, Keys::None, Group::PubSub),
    // In RESP2, with subscriptions, the server replies in another form.
    Command::server("ping", -1, LOADING | STALE | FAST, Keys::None, Group::Connection),
    Command::data("echo", 2, LOADING | STALE | FAST, Keys::None, Group::Connection, echo),
    Command::data("select", 2, LOADING | STALE | FAST, Keys::None, Group::Connection, select),
    Command::data("time", 1, LOADING | STALE | FAST, Keys::None, Group::Server, time),
];

fn echo(call: &mut Call<'_>) -> Result<Outcome> {
    let text = call.arg(1);
    call.reply.bulk(text);
    Ok(Outcome::Done)
}

fn select(call: &mut Call<'_>) -> Result<Outcome> {
    call.session.database = call.database_argument(1, "ERR DB index is out of range")?;
    call.reply.ok();
    Ok(Outcome::Done)
}

fn time(call: &mut Call<'_>) -> Result<Outcome> {
    call.reply.array(2);
    call.reply.bulk_integer((call.now_ms / 1000) as i64);
    call.reply.bulk_integer((call.now_ms % 1000 * 1000) as i64);
    Ok(Outcome::Done)
}
