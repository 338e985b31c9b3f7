//! Next-hop objects: `struct nhmsg`, `struct nexthop_grp` and `NHA_*` (include/uapi/linux/nexthop.h).

use crate::netlink::Malformed;
use crate::netlink::constants::{
    NHA_BLACKHOLE, NHA_ENCAP, NHA_ENCAP_TYPE, NHA_FDB, NHA_GATEWAY, NHA_GROUP, NHA_ID, NHA_OIF, RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
};
use crate::netlink::wire::{self, Attributes, u32_at};
use crate::source::event::{Hop, NexthopKind, NexthopObject};

/// Length of `struct nhmsg`.
pub(crate) const HEADER: usize = 8;

/// Length of `struct nexthop_grp`: id, weight - 1, its high octet (since 6.12, zero before), reserved.
const GROUP_ENTRY: usize = 8;

/// The id of a message about a next-hop object.
pub(crate) fn id(body: &[u8]) -> Result<u32, Malformed> {
    for attribute in Attributes::behind(body, HEADER)? {
        if let (NHA_ID, value) = attribute? {
            return u32_at(value, 0);
        }
    }
    Err(Malformed("next-hop object without NHA_ID"))
}

/// A next-hop object. Resilient groups (`NHA_RES_GROUP`) are groups with the same members and weights.
pub(crate) fn parse(body: &[u8]) -> Result<NexthopObject, Malformed> {
    let mut id = None;
    let mut hop = Hop {
        ifindex: 0,
        gateway: None,
        weight: 1,
        dead: dead(u32_at(body, 4)?),
        unsupported: false,
    };
    let (mut members, mut blackhole, mut fdb) = (None, false, false);
    for attribute in Attributes::behind(body, HEADER)? {
        match attribute? {
            (NHA_ID, value) => id = Some(u32_at(value, 0)?),
            (NHA_GROUP, value) => members = Some(group(value)?),
            (NHA_BLACKHOLE, _) => blackhole = true,
            (NHA_OIF, value) => hop.ifindex = u32_at(value, 0)?,
            (NHA_GATEWAY, value) => hop.gateway = Some(wire::address(value)?),
            (NHA_ENCAP | NHA_ENCAP_TYPE, _) => hop.unsupported = true,
            (NHA_FDB, _) => fdb = true,
            _ => {}
        }
    }
    let kind = match members {
        _ if fdb => NexthopKind::Unsupported,
        Some(members) => NexthopKind::Group(members),
        None if blackhole => NexthopKind::Blackhole,
        None if hop.unsupported || hop.ifindex == 0 => NexthopKind::Unsupported,
        None => NexthopKind::Hop(hop),
    };
    Ok(NexthopObject {
        id: id.ok_or(Malformed("next-hop object without NHA_ID"))?,
        kind,
    })
}

fn group(value: &[u8]) -> Result<Vec<(u32, u16)>, Malformed> {
    let (entries, []) = value.as_chunks::<GROUP_ENTRY>() else {
        return Err(Malformed("NHA_GROUP"));
    };
    let entry = |&[a, b, c, d, low, high, ..]: &[u8; GROUP_ENTRY]| {
        (
            u32::from_ne_bytes([a, b, c, d]),
            u16::from_le_bytes([low, high]).saturating_add(1),
        )
    };
    Ok(entries.iter().map(entry).collect())
}

/// Whether `RTNH_F_*` say that the hop is out of use.
pub(crate) fn dead(flags: u32) -> bool {
    flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::socket::push_attribute;

    fn object(flags: u32, attributes: &[(u16, &[u8])]) -> Result<NexthopObject, Malformed> {
        let mut body = vec![2, 0, 3, 0];
        body.extend_from_slice(&flags.to_ne_bytes());
        push_attribute(&mut body, NHA_ID, &9u32.to_ne_bytes());
        for (kind, value) in attributes {
            push_attribute(&mut body, *kind, value);
        }
        assert_eq!(id(&body), Ok(9));
        parse(&body)
    }

    #[test]
    fn single_hops_of_either_family() {
        let oif = 4u32.to_ne_bytes();
        let gateway: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        let hop = Hop {
            ifindex: 4,
            gateway: Some(gateway.into()),
            weight: 1,
            dead: false,
            unsupported: false,
        };
        let parsed = object(0, &[(NHA_OIF, &oif), (NHA_GATEWAY, &gateway.octets())]).unwrap();
        assert_eq!(
            parsed,
            NexthopObject {
                id: 9,
                kind: NexthopKind::Hop(hop)
            }
        );
        let parsed = object(RTNH_F_LINKDOWN, &[(NHA_OIF, &oif)]).unwrap();
        assert_eq!(
            parsed.kind,
            NexthopKind::Hop(Hop {
                gateway: None,
                dead: true,
                ..hop
            })
        );
    }

    #[test]
    fn group_weights_have_a_high_octet() {
        let group = [
            1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 3, 0, 0, 0, 255, 255, 0, 0,
        ];
        let parsed = object(0, &[(3, &[0, 0]), (NHA_GROUP, &group)]).unwrap();
        assert_eq!(
            parsed.kind,
            NexthopKind::Group(vec![(1, 3), (2, 257), (3, u16::MAX)])
        );
        assert_eq!(
            object(0, &[(NHA_GROUP, &group[..9])]),
            Err(Malformed("NHA_GROUP"))
        );
    }

    #[test]
    fn kinds_that_only_the_kernel_can_do() {
        let oif = 4u32.to_ne_bytes();
        assert_eq!(
            object(0, &[(NHA_BLACKHOLE, &[])]).unwrap().kind,
            NexthopKind::Blackhole
        );
        assert_eq!(
            object(0, &[(NHA_OIF, &oif), (NHA_ENCAP_TYPE, &[1, 0])])
                .unwrap()
                .kind,
            NexthopKind::Unsupported
        );
        assert_eq!(
            object(0, &[(NHA_FDB, &[]), (NHA_GROUP, &[])]).unwrap().kind,
            NexthopKind::Unsupported
        );
        assert_eq!(object(0, &[]).unwrap().kind, NexthopKind::Unsupported);
    }
}
