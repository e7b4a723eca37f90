//! Addresses of IPv6, by what routers and neighbours say (RFC 4862).
//!
//! smoltcp has an autoconfiguration of its own. With it on, the time at which it wants to be called hides the
//! timers of TCP, so it stays off.

use super::{Heard, Message, Word};
use alloc::vec::Vec;
use smoltcp::wire::{EthernetAddress, HardwareAddress, Ipv6Address, Ipv6Cidr};

/// How long to wait for somebody who says that an address is his (RFC 4861, section 10: RetransTimer).
const PROBE_US: i64 = 1_000_000;
/// How often, and how long apart, routers are asked for (RFC 4861, section 10).
const SOLICITATIONS: u8 = 3;
const SOLICIT_US: i64 = 4_000_000;
/// Below this, nobody who is not authenticated shortens the life of an address (RFC 4862, section 5.5.3, e).
const TWO_HOURS_S: u64 = 7200;
/// Addresses besides that of the link, routers and resolvers that are kept: more are ignored, so that nobody
/// on the link fills the memory.
const MOST: usize = 4;

const LINK_LOCAL: Ipv6Cidr = Ipv6Cidr::new(Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for.
    New,
    /// Ours, unless somebody says no before this time.
    Tentative(i64),
    Ours,
    /// Somebody else has it.
    Taken,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    cidr: Ipv6Cidr,
    state: State,
    /// `None`: never.
    expires_us: Option<i64>,
}

/// The addresses of a link's end.
pub(crate) struct Autoconf {
    hardware: EthernetAddress,
    /// That of the link is the first.
    addresses: Vec<Held>,
    /// Whether addresses are made of what routers say.
    follows_routers: bool,
    routers: Vec<(Ipv6Address, Option<i64>)>,
    resolvers: Vec<(Ipv6Address, Option<i64>)>,
    solicitations: u8,
    solicit_us: i64,
    changed: bool,
    /// Addresses that somebody else had.
    duplicates: u64,
}

fn after(now_us: i64, seconds: u64) -> Option<i64> {
    // All ones: for ever (RFC 4861, section 4.6.2).
    let us = (seconds < u64::from(u32::MAX)).then(|| (seconds as i64).saturating_mul(1_000_000));
    us.map(|us| now_us.saturating_add(us))
}

impl Autoconf {
    /// With the address of the link and perhaps one more.
    pub(crate) fn new(
        hardware: EthernetAddress,
        follows_routers: bool,
        address: Option<(Ipv6Cidr, Option<Ipv6Address>)>,
    ) -> Autoconf {
        let mut autoconf = Autoconf {
            hardware,
            addresses: Vec::new(),
            follows_routers,
            routers: Vec::new(),
            resolvers: Vec::new(),
            solicitations: 0,
            solicit_us: 0,
            changed: false,
            duplicates: 0,
        };
        autoconf.addresses.extend(autoconf.own(LINK_LOCAL).map(|cidr| autoconf.held(cidr, None)));
        if let Some((cidr, router)) = address {
            autoconf.addresses.push(autoconf.held(cidr, None));
            autoconf.routers.extend(router.map(|router| (router, None)));
        }
        autoconf
    }

    /// Our address with a prefix: the rest of it is made of the hardware address (RFC 4291, appendix A), so
    /// that it is the same after each start, without anything that is kept.
    fn own(&self, prefix: Ipv6Cidr) -> Option<Ipv6Cidr> {
        Ipv6Cidr::from_link_prefix(&prefix, HardwareAddress::Ethernet(self.hardware))
    }

    fn held(&self, cidr: Ipv6Cidr, expires_us: Option<i64>) -> Held {
        Held { cidr, state: State::New, expires_us }
    }

    /// Addresses that may be used.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv6Cidr> {
        self.addresses.iter().filter(|held| held.state == State::Ours).map(|held| held.cidr)
    }

    /// The way to other networks.
    pub(crate) fn router(&self) -> Option<Ipv6Address> {
        self.routers.first().map(|(router, _)| *router)
    }

    /// Whom routers name to be asked for names.
    pub(crate) fn resolvers(&self) -> impl Iterator<Item = Ipv6Address> {
        self.resolvers.iter().map(|(resolver, _)| *resolver)
    }

    /// Addresses that could not be had, since somebody else has them.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Whether addresses or routers are others than when this was asked last.
    pub(crate) fn has_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Takes what somebody says.
    pub(crate) fn take(&mut self, heard: &Heard<'_>, now_us: i64) {
        match heard.word {
            // Our own question, which came back.
            _ if heard.hardware == self.hardware => {}
            Word::Taken(address) => self.claimed(address),
            // Somebody who has no address yet wants this one as we do.
            Word::Wanted(address) if heard.source.is_unspecified() => self.claimed(address),
            Word::Wanted(_) => {}
            Word::Router { seconds, options } if self.follows_routers => {
                self.solicitations = SOLICITATIONS;
                let router = (heard.source, after(now_us, u64::from(seconds)));
                self.changed |= keep(&mut self.routers, router, seconds != 0);
                for prefix in options.prefixes() {
                    let cidr = Ipv6Cidr::new(prefix.prefix, prefix.prefix_len);
                    self.announced(cidr, prefix.valid_lifetime.secs(), now_us);
                }
                for (resolver, seconds) in options.resolvers() {
                    let until = after(now_us, u64::from(seconds));
                    keep(&mut self.resolvers, (resolver, until), seconds != 0);
                }
            }
            Word::Router { .. } => {}
        }
    }

    /// Somebody else has, or wants, an address. What is ours already stays so (RFC 4862, section 5.4.4).
    fn claimed(&mut self, address: Ipv6Address) {
        let tentative = self.addresses.iter_mut().find(|held| {
            held.cidr.address() == address && matches!(held.state, State::New | State::Tentative(_))
        });
        if let Some(held) = tentative {
            held.state = State::Taken;
            self.duplicates += 1;
        }
    }

    fn announced(&mut self, prefix: Ipv6Cidr, seconds: u64, now_us: i64) {
        let Some(own) = self.own(prefix) else { return };
        if let Some(held) = self.addresses.iter_mut().find(|held| held.cidr == own) {
            let Some(expires_us) = held.expires_us else { return };
            let left_s = u64::try_from(expires_us.saturating_sub(now_us)).unwrap_or(0) / 1_000_000;
            if seconds > TWO_HOURS_S || seconds > left_s {
                held.expires_us = after(now_us, seconds);
            } else if left_s > TWO_HOURS_S {
                held.expires_us = after(now_us, TWO_HOURS_S);
            }
        } else if seconds > 0 && self.addresses.len() <= MOST {
            // One that never ends would never be changed again: it lasts as long as any number says.
            let expires_us = after(now_us, seconds).or(Some(i64::MAX));
            self.addresses.push(self.held(own, expires_us));
        }
    }

    /// What is to be said now. Called when [`Autoconf::due_us`] says so, and after [`Autoconf::take`].
    pub(crate) fn poll(&mut self, now_us: i64) -> Vec<Message> {
        let mut messages = Vec::new();
        for held in &mut self.addresses {
            match held.state {
                State::New => {
                    held.state = State::Tentative(now_us + PROBE_US);
                    let target = held.cidr.address();
                    messages.push(Message::Solicit { source: Ipv6Address::UNSPECIFIED, target });
                }
                State::Tentative(until_us) if until_us <= now_us => {
                    held.state = State::Ours;
                    self.changed = true;
                }
                _ => {}
            }
        }
        let alive = |until_us: Option<i64>| until_us.is_none_or(|until_us| until_us > now_us);
        let before = (self.addresses.len(), self.routers.len());
        self.addresses.retain(|held| alive(held.expires_us));
        self.routers.retain(|(_, until_us)| alive(*until_us));
        self.resolvers.retain(|(_, until_us)| alive(*until_us));
        self.changed |= before != (self.addresses.len(), self.routers.len());
        if let Some(source) = self.may_solicit().filter(|_| self.solicit_us <= now_us) {
            self.solicitations += 1;
            self.solicit_us = now_us + SOLICIT_US;
            messages.push(Message::SolicitRouters { source });
        }
        messages
    }

    /// From where routers are asked for, if they are to be: when the address of the link is ours.
    fn may_solicit(&self) -> Option<Ipv6Address> {
        let first = self.addresses.first().filter(|held| held.state == State::Ours)?;
        (self.follows_routers && self.solicitations < SOLICITATIONS).then(|| first.cidr.address())
    }

    /// When [`Autoconf::poll`] is to be called.
    pub(crate) fn due_us(&self) -> Option<i64> {
        let states = self.addresses.iter().filter_map(|held| match held.state {
            State::New => Some(i64::MIN),
            State::Tentative(until_us) => Some(until_us),
            State::Ours | State::Taken => None,
        });
        let ends = self.addresses.iter().map(|held| held.expires_us);
        let ends = ends.chain(self.routers.iter().chain(&self.resolvers).map(|(_, until_us)| *until_us));
        states.chain(ends.flatten()).chain(self.may_solicit().map(|_| self.solicit_us)).min()
    }
}

/// Keeps an entry with its new end, or drops it. Returns whether the entries are others now.
fn keep(
    entries: &mut Vec<(Ipv6Address, Option<i64>)>,
    entry: (Ipv6Address, Option<i64>),
    lasts: bool,
) -> bool {
    match entries.iter().position(|(address, _)| *address == entry.0) {
        Some(at) if lasts => {
            entries[at] = entry;
            false
        }
        Some(at) => {
            entries.remove(at);
            true
        }
        None if lasts && entries.len() < MOST => {
            entries.push(entry);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
