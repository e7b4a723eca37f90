//! The stack's own addresses, and those of its neighbours.

use super::Stack;
use crate::address::{Autoconf, Message, hear};
use crate::config::{Config, Ipv4, Ipv6};
use crate::flow::too_long;
use crate::link::{Frame, Link};
use alloc::vec::Vec;
use core::task::Waker;
use smoltcp::iface::{Interface, SocketHandle};
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{DnsQueryType, EthernetAddress, IpAddress, IpCidr, Ipv4Address};

/// What is known about addresses.
pub(super) struct Addresses {
    hardware: EthernetAddress,
    dhcp: Option<SocketHandle>,
    autoconf: Option<Autoconf>,
    /// Those that the application names, and those of DHCP.
    resolvers: (Vec<IpAddress>, Vec<Ipv4Address>),
    /// Who waits for an address.
    wakers: Vec<Waker>,
}

impl Addresses {
    pub(super) fn new(hardware: EthernetAddress, config: &Config) -> Addresses {
        let autoconf = match config.ipv6 {
            Ipv6::None => None,
            Ipv6::Slaac => Some(Autoconf::new(hardware, true, None)),
            Ipv6::Static { address, router } => Some(Autoconf::new(hardware, false, Some((address, router)))),
        };
        Addresses {
            hardware,
            dhcp: None,
            autoconf,
            resolvers: (config.resolvers.clone(), Vec::new()),
            wakers: Vec::new(),
        }
    }

    pub(super) fn due_us(&self) -> Option<i64> {
        self.autoconf.as_ref().and_then(Autoconf::due_us)
    }
}

/// Replaces the addresses of one kind.
fn replace(interface: &mut Interface, with: &[IpCidr], is_kind: impl Fn(&IpCidr) -> bool) {
    interface.update_ip_addrs(|addresses| {
        addresses.retain(|address| !is_kind(address));
        // There is room: one of the eight places is for IPv4, and `Autoconf` has fewer than the rest.
        with.iter().for_each(|address| {
            let _ = addresses.push(*address);
        });
    });
}

impl Stack {
    /// Begins to have addresses.
    pub(super) fn begin_addresses(&mut self, config: &Config) {
        match config.ipv4 {
            Ipv4::None => {}
            Ipv4::Dhcp => {
                self.addresses.dhcp = Some(self.add_common(dhcpv4::Socket::new()));
            }
            Ipv4::Static { address, router } => self.have_ipv4(Some(IpCidr::Ipv4(address)), router),
        }
    }

    fn have_ipv4(&mut self, address: Option<IpCidr>, router: Option<Ipv4Address>) {
        let address: Vec<IpCidr> = address.into_iter().collect();
        replace(&mut self.interface, &address, |address| matches!(address, IpCidr::Ipv4(_)));
        let routes = self.interface.routes_mut();
        match router {
            // There is room: two of the places are for the two ways to everywhere.
            Some(router) => drop(routes.add_default_ipv4_route(router)),
            None => drop(routes.remove_default_ipv4_route()),
        }
        self.addresses_changed();
    }

    /// Takes a message of discovery, and answers nothing: that is left to the interface.
    pub(super) fn hear(&mut self, frame: &Frame, now_us: i64) {
        if let Some((autoconf, heard)) = self.addresses.autoconf.as_mut().zip(hear(frame)) {
            autoconf.take(&heard, now_us);
            self.poll_autoconf(now_us);
        }
    }

    /// A router may say that packets are too long for their way. It is believed if the packet that it shows
    /// is of a connection that there is: whoever is not on the way can't know.
    pub(super) fn hear_limit(&mut self, frame: &Frame, now_us: i64) {
        if let Some((flow, bytes)) = too_long(frame)
            && self.table.find(&flow).is_some()
        {
            self.link.limit(flow.remote.addr, bytes, now_us);
        }
    }

    /// Asks what is to be asked now, and uses the addresses that are ours now.
    pub(super) fn poll_autoconf(&mut self, now_us: i64) {
        let Some(autoconf) = &mut self.addresses.autoconf else { return };
        let messages = autoconf.poll(now_us);
        let changed = autoconf.has_changed();
        let ours: Vec<IpCidr> = autoconf.addresses().map(IpCidr::Ipv6).collect();
        let router = autoconf.router();
        messages.iter().for_each(|message| self.say(message));
        if changed {
            replace(&mut self.interface, &ours, |address| matches!(address, IpCidr::Ipv6(_)));
            let routes = self.interface.routes_mut();
            match router {
                Some(router) => drop(routes.add_default_ipv6_route(router)),
                None => drop(routes.remove_default_ipv6_route()),
            }
            self.addresses_changed();
        }
    }

    fn say(&mut self, message: &Message) {
        let hardware = self.addresses.hardware;
        let mut frame = self.link.frame(message.bytes(hardware));
        message.emit(hardware, &mut frame);
        self.link.send(frame);
        self.statistics.frames_sent += 1;
    }

    /// Follows what DHCP says.
    pub(super) fn configure(&mut self) {
        let Some(handle) = self.addresses.dhcp else { return };
        let lease = match self.common.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(lease)) => {
                Some((lease.address, lease.router, lease.dns_servers.iter().copied().collect()))
            }
        };
        let (address, router, resolvers) = lease
            .map_or((None, None, Vec::new()), |(address, router, resolvers)| {
                (Some(address), router, resolvers)
            });
        self.addresses.resolvers.1 = resolvers;
        self.have_ipv4(address.map(IpCidr::Ipv4), router);
    }

    /// A socket whose address is gone finds out when it is polled.
    fn addresses_changed(&mut self) {
        (0..self.table.places()).for_each(|slot| self.set_pending(slot));
        self.addresses.wakers.drain(..).for_each(Waker::wake);
    }

    /// The addresses that may be used now.
    pub(crate) fn own_addresses(&self) -> &[IpCidr] {
        self.interface.ip_addrs()
    }

    /// Wakes `waker` when addresses are others.
    pub(crate) fn wait_for_address(&mut self, waker: &Waker) {
        self.addresses.wakers.push(waker.clone());
    }

    /// Addresses that somebody else had.
    pub(super) fn duplicates(&self) -> u64 {
        self.addresses.autoconf.as_ref().map_or(0, Autoconf::duplicates)
    }

    /// Whom to ask for names, the first first.
    pub(crate) fn resolvers(&self) -> Vec<IpAddress> {
        let (configured, by_dhcp) = &self.addresses.resolvers;
        let announced = self.addresses.autoconf.iter().flat_map(Autoconf::resolvers);
        let network = by_dhcp.iter().copied().map(IpAddress::Ipv4).chain(announced.map(IpAddress::Ipv6));
        configured.iter().copied().chain(network).collect()
    }

    /// The kinds of addresses that it is worth to ask names for.
    pub(crate) fn kinds(&self) -> Vec<DnsQueryType> {
        let own = self.interface.ip_addrs().iter().map(IpCidr::address);
        let (mut four, mut six) = (None, None);
        for address in own {
            match address {
                IpAddress::Ipv4(_) => four = Some(DnsQueryType::A),
                IpAddress::Ipv6(address) if address.is_unicast_link_local() => {}
                IpAddress::Ipv6(_) => six = Some(DnsQueryType::Aaaa),
            }
        }
        four.into_iter().chain(six).collect()
    }
}
