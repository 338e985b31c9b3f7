//! The kernel's own answer for a destination: `ip route get`, one by one or by the million.

use std::collections::VecDeque;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};

use super::constants::{
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, RTM_F_FIB_MATCH, RTM_F_LOOKUP_TABLE, RTM_GETROUTE,
};
use super::parse::route;
use super::socket::{REQUEST_BUFFER, Socket, verdict};
use super::wire::Messages;
use super::{Error, Malformed};
use crate::source::event::{Action, Hop, Ifindex};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// Where to.
    pub destination: IpAddr,
    /// From where, for a packet that comes in.
    pub source: Option<IpAddr>,
    /// The interface it comes in on; without one the kernel answers for a packet of its own.
    pub iif: Option<Ifindex>,
    /// Ask for the route that matches, with its prefix and all its hops, instead of the one way that one packet takes.
    pub fibmatch: bool,
}

impl RouteQuery {
    /// The route that matches a destination.
    #[must_use]
    pub fn matching(destination: IpAddr) -> Self {
        Self {
            destination,
            source: None,
            iif: None,
            fibmatch: true,
        }
    }
}

/// The kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAnswer {
    /// A route.
    Route(RouteFound),
    /// None, or one that refuses: the errno tells which kind, but not its prefix.
    Refused(Refusal),
}

/// A route that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFound {
    /// The prefix that matches, with `fibmatch`; else the destination.
    pub prefix: IpNet,
    /// Its table. Until a policy rule is added, IPv4 keeps local and main in one trie and says main for both
    /// (`fib_unmerge`, net/ipv4/fib_frontend.c).
    pub table: u32,
    /// Its metric, with `fibmatch`.
    pub metric: u32,
    /// What it does; [`Action::Nexthop`] where it names a next-hop object.
    pub action: Action,
    /// The hops, those of a next-hop object included (as long as `net.ipv4.nexthop_compat_mode` is 1, the default). An
    /// IPv6 set starts with the hop that the lookup picked, not as in a dump.
    pub hops: Vec<Hop>,
}

/// Why there is no way (`fib_props`, net/ipv4/fib_semantics.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// ENETUNREACH: no route, not even a default one.
    NoRoute,
    /// EINVAL: blackhole, or a destination that cannot be routed (0.0.0.0/8 as a packet that comes in).
    Blackhole,
    /// EHOSTUNREACH: `unreachable`.
    Unreachable,
    /// EACCES: `prohibit`.
    Prohibit,
    /// Another errno.
    Other(i32),
}

/// Asks one.
pub fn route_get(query: RouteQuery) -> Result<RouteAnswer, Error> {
    let queries = [query];
    match route_get_many(queries)?.next() {
        Some(answer) => answer.map(|(_, answer)| answer),
        None => Err(Malformed("no answer").into()),
    }
}

/// Asks many, with as many in flight as the receive buffer holds answers; they come in the order of the questions. After
/// an error the iterator ends.
pub fn route_get_many<Q: IntoIterator<Item = RouteQuery>>(
    queries: Q,
) -> Result<RouteAnswers<Q::IntoIter>, Error> {
    let socket = Socket::open(REQUEST_BUFFER)?;
    let window = (socket.receive_buffer() / ANSWER_SIZE).clamp(1, MAX_IN_FLIGHT);
    Ok(RouteAnswers {
        socket,
        queries: queries.into_iter(),
        window,
        ready: VecDeque::new(),
        failed: false,
    })
}

/// What one answer takes of the receive buffer: `inet_rtm_getroute` allocates NLMSG_GOODSIZE, a page, plus overhead.
const ANSWER_SIZE: usize = 10 * 1024;

/// More in flight gain nothing: the kernel answers within the send call.
const MAX_IN_FLIGHT: usize = 256;

/// The answers of [`route_get_many`].
pub struct RouteAnswers<Q> {
    socket: Socket,
    queries: Q,
    window: usize,
    ready: VecDeque<(RouteQuery, RouteAnswer)>,
    failed: bool,
}

impl<Q: Iterator<Item = RouteQuery>> Iterator for RouteAnswers<Q> {
    type Item = Result<(RouteQuery, RouteAnswer), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.failed
            && let Err(error) = self.batch()
        {
            self.failed = true;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl<Q: Iterator<Item = RouteQuery>> RouteAnswers<Q> {
    /// Sends a window of questions in one datagram and reads all their answers.
    fn batch(&mut self) -> Result<(), Error> {
        let (mut datagram, mut asked, mut first) = (Vec::new(), Vec::with_capacity(self.window), None);
        for query in self.queries.by_ref().take(self.window) {
            let sequence = self.socket.request(&mut datagram, RTM_GETROUTE, 0, &body(&query));
            first.get_or_insert(sequence);
            asked.push(query);
        }
        let Some(first) = first else { return Ok(()) };
        self.socket.send(&datagram)?;
        let mut answers: Vec<Option<RouteAnswer>> = vec![None; asked.len()];
        let mut missing = asked.len();
        while missing > 0 {
            let Some(datagram) = self.socket.receive(true)? else {
                continue;
            };
            for message in Messages(datagram) {
                let message = message?;
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(slot @ None) = answers.get_mut(index) else {
                    continue;
                };
                *slot = Some(match message.kind {
                    NLMSG_NOOP | NLMSG_DONE => continue,
                    NLMSG_ERROR => RouteAnswer::Refused(refusal(verdict(RTM_GETROUTE, &message))?),
                    _ => RouteAnswer::Route(found(&asked[index], message.body)?),
                });
                missing -= 1;
            }
        }
        self.ready
            .extend(asked.into_iter().zip(answers.into_iter().flatten()));
        Ok(())
    }
}

fn found(query: &RouteQuery, body: &[u8]) -> Result<RouteFound, Malformed> {
    let parsed = route::parse_any(body, !query.fibmatch)?.ok_or(Malformed("answer of another family"))?;
    let route = parsed.route;
    let hops = match &route.action {
        Action::Hops(hops) => hops.clone(),
        Action::Nexthop(_) => parsed.resolved,
        _ => Vec::new(),
    };
    Ok(RouteFound {
        prefix: route.prefix,
        table: route.table,
        metric: route.metric,
        action: route.action,
        hops,
    })
}

/// Errors that are answers.
fn refusal(verdict: Result<(), Error>) -> Result<Refusal, Error> {
    let Err(error) = verdict else {
        return Err(Malformed("acknowledged without an answer").into());
    };
    match error.errno() {
        // With a text it is not the route that is at fault, but the question.
        _ if matches!(error, Error::Refused { text: Some(_), .. }) => Err(error),
        Some(libc::ENETUNREACH) => Ok(Refusal::NoRoute),
        Some(libc::EINVAL) => Ok(Refusal::Blackhole),
        Some(libc::EHOSTUNREACH) => Ok(Refusal::Unreachable),
        Some(libc::EACCES) => Ok(Refusal::Prohibit),
        Some(errno) => Ok(Refusal::Other(errno)),
        None => Err(error),
    }
}

fn body(query: &RouteQuery) -> Vec<u8> {
    let mut message = RouteMessage::default();
    let v4 = query.destination.is_ipv4();
    message.header.address_family = if v4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.destination_prefix_length = if v4 { 32 } else { 128 };
    let fibmatch = if query.fibmatch { RTM_F_FIB_MATCH } else { 0 };
    // IPv6 always tells the true table, and refuses the flag that asks for it (inet6_rtm_valid_getroute_req).
    let table = if v4 { RTM_F_LOOKUP_TABLE } else { 0 };
    message.header.flags = RouteFlags::from_bits_retain(table | fibmatch);
    message
        .attributes
        .push(RouteAttribute::Destination(address(query.destination)));
    if let Some(source) = query.source {
        message.header.source_prefix_length = if v4 { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Source(address(source)));
    }
    if let Some(iif) = query.iif {
        message.attributes.push(RouteAttribute::Iif(iif));
    }
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    body
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}
