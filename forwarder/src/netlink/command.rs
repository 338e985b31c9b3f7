//! What we ask the kernel to do or to tell: neighbours to keep alive, policy rules, counters, XDP programs.

use std::net::IpAddr;

use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};

use super::constants::{
    NTF_EXT_LEARNED, NTF_EXT_MANAGED, NTF_ROUTER, NTF_USE, NUD_NOARP, NUD_PERMANENT, RT_TABLE_DEFAULT,
    RTM_GETLINK, RTM_GETNEIGH, RTM_GETRULE, RTM_NEWNEIGH, RTM_NEWRULE,
};
use super::dump::repeated;
use super::parse::neighbour::Entry;
use super::parse::{link, neighbour, rule};
use super::socket::{REQUEST_BUFFER, Socket, wildcard};
use super::{Error, Malformed};
use crate::source::event::Ifindex;

/// What became of a request about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourOutcome {
    /// Done.
    Done,
    /// Left alone: an administrator's entry (PERMANENT, NOARP). The kernel never asks for its address, and a request
    /// like ours would make it an ordinary one.
    Static,
    /// There is no such entry.
    Absent,
}

/// A policy rule (`ip rule`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// IPv6, else IPv4.
    pub ipv6: bool,
    /// `FRA_PRIORITY`.
    pub priority: u32,
    /// The table it leads to.
    pub table: u32,
    /// It asks the table for every packet: no selector, and nothing but the lookup.
    pub plain: bool,
}

/// Counters of a link (`IFLA_STATS64`), as the driver and the stack keep them, and its flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of struct rtnl_link_stats64")]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    /// Of the link, as `IFF_UP`.
    pub flags: u32,
}

/// Where an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the stack (`xdpgeneric`).
    Generic,
    /// In the device.
    Hardware,
    /// In more than one of these.
    Several,
}

/// A socket for commands; each function below waits for the kernel's answer.
pub struct Commander {
    socket: Socket,
}

impl Commander {
    /// In the network namespace of this thread.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(REQUEST_BUFFER)?,
        })
    }

    /// Lets the kernel keep a neighbour resolved (`NTF_EXT_MANAGED`, Linux 5.16): it resolves it now and probes it from
    /// time to time, traffic or not. An entry that exists keeps its state and address.
    pub fn manage_neighbour(&mut self, ifindex: Ifindex, address: IpAddr) -> Result<NeighbourOutcome, Error> {
        let entry = self.neighbour(ifindex, address)?;
        if entry.is_some_and(is_static) {
            return Ok(NeighbourOutcome::Static);
        }
        self.touch(
            ifindex,
            address,
            entry,
            NeighbourFlags::empty(),
            NLM_F_CREATE | NLM_F_REPLACE,
            |extended| extended | NTF_EXT_MANAGED,
        )
    }

    /// Makes a managed neighbour an ordinary one that ages; it keeps its state and hardware address.
    pub fn unmanage_neighbour(
        &mut self,
        ifindex: Ifindex,
        address: IpAddr,
    ) -> Result<NeighbourOutcome, Error> {
        match self.neighbour(ifindex, address)? {
            None => Ok(NeighbourOutcome::Absent),
            Some(entry) if is_static(entry) => Ok(NeighbourOutcome::Static),
            Some(entry) if entry.extended & NTF_EXT_MANAGED == 0 => Ok(NeighbourOutcome::Done),
            // A change without the flag takes it away; NTF_USE is what keeps the change from touching the state.
            entry => self.touch(ifindex, address, entry, NeighbourFlags::Use, 0, |extended| {
                extended & !NTF_EXT_MANAGED
            }),
        }
    }

    /// Tells the kernel that the neighbour is in use (`NTF_USE`), as a packet through the stack does: a STALE entry goes
    /// to DELAY and is probed, one that does not exist is resolved.
    pub fn use_neighbour(&mut self, ifindex: Ifindex, address: IpAddr) -> Result<NeighbourOutcome, Error> {
        let entry = self.neighbour(ifindex, address)?;
        if entry.is_some_and(is_static) {
            return Ok(NeighbourOutcome::Static);
        }
        self.touch(
            ifindex,
            address,
            entry,
            NeighbourFlags::Use,
            NLM_F_CREATE | NLM_F_REPLACE,
            |extended| extended,
        )
    }

    /// RTM_NEWNEIGH without state or address. With `NTF_USE` or `NTF_EXT_MANAGED`, `__neigh_update`
    /// (net/core/neighbour.c) leaves both as they are (but takes PERMANENT away, hence [`is_static`]) and
    /// `neigh_add` then starts resolution as traffic would. It also sets the entry's flags to exactly those of the
    /// request, so what was there has to be said again.
    fn touch(
        &mut self,
        ifindex: Ifindex,
        address: IpAddr,
        entry: Option<Entry>,
        flags: NeighbourFlags,
        mode: u16,
        extended: impl Fn(u32) -> u32,
    ) -> Result<NeighbourOutcome, Error> {
        let (kept, known) = entry.map_or((0, 0), |entry| {
            (entry.flags & (NTF_EXT_LEARNED | NTF_ROUTER), entry.extended)
        });
        let mut message = neighbour_message(ifindex, address);
        message.header.flags = flags | NeighbourFlags::from_bits_retain(kept);
        let extended = extended(known);
        debug_assert!(extended & NTF_EXT_MANAGED != 0 || message.header.flags.bits() & NTF_USE != 0);
        if extended != 0 {
            message
                .attributes
                .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::from_bits_retain(
                    extended,
                )));
        }
        match self.socket.acknowledged(RTM_NEWNEIGH, mode, &emitted(&message)) {
            Err(error) if mode & NLM_F_CREATE == 0 && error.errno() == Some(libc::ENOENT) => {
                Ok(NeighbourOutcome::Absent)
            }
            result => result.map(|()| NeighbourOutcome::Done),
        }
    }

    /// The entry of the neighbour table.
    fn neighbour(&mut self, ifindex: Ifindex, address: IpAddr) -> Result<Option<Entry>, Error> {
        match self
            .socket
            .answer(RTM_GETNEIGH, &emitted(&neighbour_message(ifindex, address)))
        {
            Ok(body) => Ok(neighbour::entry(&body)?),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All policy rules.
    pub fn rules(&mut self) -> Result<Vec<Rule>, Error> {
        repeated(|| {
            let mut rules = Vec::new();
            self.socket
                .dump(RTM_GETRULE, &wildcard(0, rule::HEADER), &mut |message| {
                    if message.kind == RTM_NEWRULE {
                        rules.extend(rule::parse(message.body)?);
                    }
                    Ok(())
                })?;
            Ok(rules)
        })
    }

    /// Counters of a link.
    pub fn link_stats(&mut self, ifindex: Ifindex) -> Result<LinkStats, Error> {
        Ok(link::stats(&self.link(ifindex)?)?)
    }

    /// The XDP program of a link: its mode and id. The id is 0 where several are attached.
    pub fn xdp_attached(&mut self, ifindex: Ifindex) -> Result<Option<(XdpMode, u32)>, Error> {
        Ok(link::xdp(&self.link(ifindex)?)?)
    }

    fn link(&mut self, ifindex: Ifindex) -> Result<Vec<u8>, Error> {
        let mut body = wildcard(0, link::HEADER);
        let field = body.get_mut(4..8).ok_or(Malformed("ifinfomsg"))?;
        field.copy_from_slice(&ifindex.to_ne_bytes());
        self.socket.answer(RTM_GETLINK, &body)
    }
}

/// The tables that the rules of a family ask, in their order; `None` where a rule looks at more than the destination. Table
/// default, last and empty by default, is left out at the end. None for IPv6 where that is off.
#[must_use]
pub fn tables_asked(rules: &[Rule], ipv6: bool) -> Option<Vec<u32>> {
    let mut rules: Vec<&Rule> = rules.iter().filter(|rule| rule.ipv6 == ipv6).collect();
    if rules.iter().any(|rule| !rule.plain) {
        return None;
    }
    // In the order of the dump among those of one priority (fib_rules.c `fib_nl_newrule`).
    rules.sort_by_key(|rule| rule.priority);
    let mut tables: Vec<u32> = Vec::new();
    for rule in rules {
        if !tables.contains(&rule.table) {
            tables.push(rule.table);
        }
    }
    if tables.last() == Some(&RT_TABLE_DEFAULT) {
        tables.pop();
    }
    Some(tables)
}

fn is_static(entry: Entry) -> bool {
    entry.state & (NUD_PERMANENT | NUD_NOARP) != 0
}

fn neighbour_message(ifindex: Ifindex, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.ifindex = ifindex;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    message
}

fn emitted(message: &impl Emitable) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    body
}
