//! The state as it stands: what a watcher's events are reconciled with.
//!
//! Watch first, then dump: then a change is in the dump, in the events, or in both, and never in neither.

use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use super::constants::{
    IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS, RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETNEXTHOP,
    RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNEXTHOP, RTM_NEWROUTE,
};
use super::parse::{address, link, neighbour, nexthop, route};
use super::socket::{REQUEST_BUFFER, Socket, push_attribute, wildcard};
use super::{Error, Malformed};
use crate::source::event::{Address, Dump, Link, Neighbour, NexthopObject, Route};
use crate::source::route_tables::RouteTables;

/// How often an interrupted dump is repeated. Links, addresses and neighbours are few: the third comes through.
const ATTEMPTS: usize = 10;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn of_crate(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

/// Every table, where one is asked for: `RT_TABLE_UNSPEC`.
pub const EVERY_TABLE: u32 = 0;

/// What to dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Links.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Neighbours.
    pub neighbours: bool,
    /// Next-hop objects.
    pub nexthops: bool,
    /// Routes.
    pub routes: bool,
}

impl Scope {
    /// Everything, of routes those of tables local and main.
    pub const ALL: Self = Self {
        links: true,
        addresses: true,
        neighbours: true,
        nexthops: true,
        routes: true,
    };
    /// Everything but routes, for a caller that streams them ([`dump_tables`]).
    pub const WITHOUT_ROUTES: Self = Self {
        routes: false,
        ..Self::ALL
    };
}

/// Dumps what `scope` names, in the order of dependence: links, addresses, next-hop objects, routes, neighbours.
pub fn dump(scope: Scope) -> Result<Dump, Error> {
    let mut dump = Dump::default();
    if scope.links {
        dump.links = dump_links()?;
    }
    if scope.addresses {
        dump.addresses = dump_addresses()?;
    }
    if scope.nexthops {
        dump.nexthops = dump_nexthops()?;
    }
    if scope.routes {
        dump.routes = repeated(|| {
            let mut routes = Vec::new();
            dump_tables(&RouteTables::default(), &mut |route| routes.push(route))?;
            Ok(routes)
        })?;
    }
    if scope.neighbours {
        dump.neighbours = dump_neighbours()?;
    }
    Ok(dump)
}

/// All links.
pub fn dump_links() -> Result<Vec<Link>, Error> {
    collect(RTM_GETLINK, RTM_NEWLINK, &all_links(), link::parse)
}

fn all_links() -> Vec<u8> {
    let mut body = wildcard(0, link::HEADER);
    push_attribute(&mut body, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    body
}

/// All IPv4 and IPv6 addresses.
pub fn dump_addresses() -> Result<Vec<Address>, Error> {
    collect(
        RTM_GETADDR,
        RTM_NEWADDR,
        &wildcard(0, address::HEADER),
        address::parse,
    )
}

/// All neighbours of both families.
pub fn dump_neighbours() -> Result<Vec<Neighbour>, Error> {
    collect(
        RTM_GETNEIGH,
        RTM_NEWNEIGH,
        &wildcard(0, neighbour::HEADER),
        neighbour::parse,
    )
}

/// All next-hop objects; none on kernels before 5.3, which do not have them.
pub fn dump_nexthops() -> Result<Vec<NexthopObject>, Error> {
    let body = wildcard(0, nexthop::HEADER);
    collect(RTM_GETNEXTHOP, RTM_NEWNEXTHOP, &body, |body| {
        nexthop::parse(body).map(Some)
    })
}

/// The routes of one family and table, one by one. A table that does not exist, or a kernel without IPv6, has none. The
/// dump of routes is not interrupted by changes (on 6.18 no `NLM_F_DUMP_INTR`), it is not a snapshot either: the
/// watcher's events make it whole. On [`Error::Interrupted`] discard what came and call again.
pub fn dump_routes(family: Family, table: u32, each: &mut dyn FnMut(Route)) -> Result<(), Error> {
    let ipv6 = family == Family::V6;
    let body = all_routes(family, table);
    let result = Socket::open(REQUEST_BUFFER)?.dump(RTM_GETROUTE, &body, &mut |message| {
        if message.kind == RTM_NEWROUTE
            && let Some(route) = route::parse(message.body)?
            // Kernels without NETLINK_GET_STRICT_CHK (before 4.20) ignore the table; those without IPv6 the family.
            && (route.table == table || table == EVERY_TABLE)
            && route.prefix.addr().is_ipv6() == ipv6
        {
            each(route);
        }
        Ok(())
    });
    absent_is_empty(result)
}

fn all_routes(family: Family, table: u32) -> Vec<u8> {
    let mut request = RouteMessage::default();
    request.header.address_family = family.of_crate();
    request.attributes.push(RouteAttribute::Table(table));
    let mut body = vec![0; request.buffer_len()];
    request.emit(&mut body);
    body
}

/// Everything, the routes of every table, datagram by datagram as the kernel sends them, in the order of [`dump`]. On
/// [`Error::Interrupted`] what came is no whole: call again.
pub fn dump_datagrams(each: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
    let route = |family| (RTM_GETROUTE, all_routes(family, EVERY_TABLE));
    let requests = [
        (RTM_GETLINK, all_links()),
        (RTM_GETADDR, wildcard(0, address::HEADER)),
        (RTM_GETNEXTHOP, wildcard(0, nexthop::HEADER)),
        route(Family::V4),
        route(Family::V6),
        (RTM_GETNEIGH, wildcard(0, neighbour::HEADER)),
    ];
    for (kind, body) in requests {
        absent_is_empty(Socket::open(REQUEST_BUFFER)?.dump_datagrams(kind, &body, each))?;
    }
    Ok(())
}

/// The routes of both families and of these tables, in their order, likewise.
pub fn dump_tables(tables: &RouteTables, each: &mut dyn FnMut(Route)) -> Result<(), Error> {
    for family in Family::ALL {
        for table in tables.iter() {
            dump_routes(family, table, each)?;
        }
    }
    Ok(())
}

/// Waits until operations that the kernel has already announced are complete.
///
/// It announces some before it carries them out: `remove_nexthop` (net/ipv4/nexthop.c) and `fib_table_delete`
/// (fib_trie.c) notify first, and dumps of IPv4 routes take no lock since 6.9. A request for a single link does take the
/// rtnl lock that such operations hold, so its answer comes after them. Interface 1 is the loopback of every namespace.
pub fn settle() -> Result<(), Error> {
    let mut body = wildcard(0, link::HEADER);
    body[4..8].copy_from_slice(&1u32.to_ne_bytes());
    Socket::open(REQUEST_BUFFER)?.answer(RTM_GETLINK, &body).map(drop)
}

fn collect<T>(
    request: u16,
    answer: u16,
    body: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Vec<T>, Error> {
    repeated(|| {
        let mut found = Vec::new();
        let result = Socket::open(REQUEST_BUFFER)?.dump(request, body, &mut |message| {
            if message.kind == answer {
                found.extend(parse(message.body)?);
            }
            Ok(())
        });
        absent_is_empty(result).map(|()| found)
    })
}

/// Repeats what was interrupted by changes.
pub(super) fn repeated<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Error::Interrupted(what)) => tracing::debug!(what, "dump interrupted by a change, again"),
            other => return other,
        }
    }
    attempt()
}

/// What this kernel does not have is empty: a table that was never used (ENOENT), IPv6 switched off or next-hop objects
/// before 5.3 (EOPNOTSUPP, EAFNOSUPPORT).
fn absent_is_empty(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error)
            if [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT]
                .map(Some)
                .contains(&error.errno()) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_dump_is_repeated_but_not_for_ever() {
        let mut left = 3;
        let third = repeated(|| {
            left -= 1;
            if left > 0 {
                Err(Error::Interrupted("test"))
            } else {
                Ok(left)
            }
        });
        assert_eq!(third.unwrap(), 0);
        assert!(matches!(
            repeated(|| Err::<(), _>(Error::Interrupted("test"))),
            Err(Error::Interrupted(_))
        ));
        assert!(matches!(
            repeated(|| Err::<(), _>(Error::Overrun)),
            Err(Error::Overrun)
        ));
    }
}
