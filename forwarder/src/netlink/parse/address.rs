//! `struct ifaddrmsg` and `IFA_*` (include/uapi/linux/if_addr.h).

use ipnet::IpNet;

use crate::netlink::Malformed;
use crate::netlink::constants::{AF_INET, AF_INET6, IFA_ADDRESS, IFA_LOCAL};
use crate::netlink::wire::{self, Attributes, u8_at, u32_at};
use crate::source::event::Address;

/// Length of `struct ifaddrmsg`.
pub(crate) const HEADER: usize = 8;

/// An address; `None` for other families.
pub(crate) fn parse(body: &[u8]) -> Result<Option<Address>, Malformed> {
    if ![AF_INET, AF_INET6].contains(&u8_at(body, 0)?) {
        return Ok(None);
    }
    let (length, ifindex) = (u8_at(body, 1)?, u32_at(body, 4)?);
    let (mut local, mut peer) = (None, None);
    for attribute in Attributes::behind(body, HEADER)? {
        match attribute? {
            (IFA_LOCAL, value) => local = Some(wire::address(value)?),
            // The far end where there is one, else the same as IFA_LOCAL; IPv6 without a peer has only this one.
            (IFA_ADDRESS, value) => peer = Some(wire::address(value)?),
            _ => {}
        }
    }
    let address = local
        .or(peer)
        .ok_or(Malformed("address message without an address"))?;
    let address = IpNet::new(address, length).map_err(|_| Malformed("ifa_prefixlen"))?;
    Ok(Some(Address { ifindex, address }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::socket::push_attribute;

    fn body(family: u8, length: u8) -> Vec<u8> {
        let mut body = vec![family, length, 0, 0];
        body.extend_from_slice(&4u32.to_ne_bytes());
        body
    }

    #[test]
    fn the_local_end_of_a_point_to_point_link_is_ours() {
        let mut body = body(AF_INET, 32);
        push_attribute(&mut body, IFA_ADDRESS, &[198, 51, 100, 2]);
        push_attribute(&mut body, IFA_LOCAL, &[192, 0, 2, 1]);
        let expected = Address {
            ifindex: 4,
            address: "192.0.2.1/32".parse().unwrap(),
        };
        assert_eq!(parse(&body), Ok(Some(expected)));
    }

    #[test]
    fn ipv6_has_no_local_attribute_and_a_length_over_128_is_refused() {
        let octets = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        for (length, expected) in [
            (64, Ok("2001:db8::1/64".parse().unwrap())),
            (129, Err(Malformed("ifa_prefixlen"))),
        ] {
            let mut body = body(AF_INET6, length);
            push_attribute(&mut body, IFA_ADDRESS, &octets);
            assert_eq!(
                parse(&body),
                expected.map(|address| Some(Address { ifindex: 4, address }))
            );
        }
    }

    #[test]
    fn another_family_is_skipped_and_an_address_without_one_refused() {
        assert_eq!(parse(&body(45, 8)), Ok(None)); // AF_MCTP
        assert!(parse(&body(AF_INET, 24)).is_err());
    }
}
