//! `struct ifinfomsg` and `IFLA_*` (include/uapi/linux/rtnetlink.h, if_link.h).

use crate::netlink::Malformed;
use crate::netlink::command::{LinkStats, XdpMode};
use crate::netlink::constants::{
    AF_INET6, AF_UNSPEC, ARPHRD_ETHER, DEVCONF_MTU6, IFF_LOWER_UP, IFF_RUNNING, IFF_UP, IFLA_ADDRESS,
    IFLA_AF_SPEC, IFLA_IFNAME, IFLA_INET6_CONF, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, IFLA_STATS64, IFLA_WIRELESS, IFLA_XDP, IFLA_XDP_ATTACHED, IFLA_XDP_PROG_ID, XDP_ATTACHED_DRV,
    XDP_ATTACHED_HW, XDP_ATTACHED_NONE, XDP_ATTACHED_SKB,
};
use crate::netlink::parse::link_info;
use crate::netlink::wire::{Attributes, string, u8_at, u16_at, u32_at, u64_at};
use crate::source::event::{Ifindex, Link};

/// Length of `struct ifinfomsg`.
pub(crate) const HEADER: usize = 16;

/// The index of a link message; `None` for a message about a bridge port (`AF_BRIDGE`), whose RTM_DELLINK means
/// that the link left the bridge.
pub(crate) fn index(body: &[u8]) -> Result<Option<Ifindex>, Malformed> {
    Ok(if u8_at(body, 0)? == AF_UNSPEC {
        Some(u32_at(body, 4)?)
    } else {
        None
    })
}

/// A link; `None` for a bridge port or a wireless event, which only borrow the message type.
pub(crate) fn parse(body: &[u8]) -> Result<Option<Link>, Malformed> {
    let Some(ifindex) = index(body)? else {
        return Ok(None);
    };
    let flags = u32_at(body, 8)?;
    let mut link = Link {
        ifindex,
        ethernet: u16_at(body, 2)? == ARPHRD_ETHER,
        admin_up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        running: flags & IFF_RUNNING != 0,
        ..Link::default()
    };
    let (mut wireless, mut lower, mut elsewhere) = (false, None, false);
    for attribute in Attributes::behind(body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            IFLA_IFNAME => link.name = string(value),
            // Tunnels have addresses of other lengths; they are not Ethernet.
            IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_MASTER => link.master = Some(u32_at(value, 0)?).filter(|&index| index != 0),
            IFLA_LINK => lower = Some(u32_at(value, 0)?).filter(|&index| index != 0),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_LINKINFO => link_info::parse(value, &mut link)?,
            IFLA_AF_SPEC => link.mtu6 = mtu6(value)?.unwrap_or(0),
            IFLA_WIRELESS => wireless = true,
            _ => {}
        }
    }
    if link.name.is_empty() {
        return if wireless {
            Ok(None)
        } else {
            Err(Malformed("link without IFLA_IFNAME"))
        };
    }
    if link.mtu6 == 0 {
        link.mtu6 = link.mtu;
    }
    if link_info::is_stacked(&link.kind) && !elsewhere {
        link.lower = lower;
    }
    Ok(Some(link))
}

/// `IFLA_AF_SPEC` / AF_INET6 / `IFLA_INET6_CONF` is an array of s32; older kernels have a shorter one.
fn mtu6(af_spec: &[u8]) -> Result<Option<u32>, Malformed> {
    let Some(inet6) = find(af_spec, u16::from(AF_INET6))? else {
        return Ok(None);
    };
    Ok(find(inet6, IFLA_INET6_CONF)?.and_then(|conf| u32_at(conf, DEVCONF_MTU6 * 4).ok()))
}

/// The counters of a link message (`struct rtnl_link_stats64`).
pub(crate) fn stats(body: &[u8]) -> Result<LinkStats, Malformed> {
    let value = attribute(body, IFLA_STATS64)?.ok_or(Malformed("link without IFLA_STATS64"))?;
    let counter = |index: usize| u64_at(value, index * 8);
    Ok(LinkStats {
        // ifinfomsg.ifi_flags
        flags: u32_at(body, 8)?,
        rx_packets: counter(0)?,
        tx_packets: counter(1)?,
        rx_bytes: counter(2)?,
        tx_bytes: counter(3)?,
        rx_errors: counter(4)?,
        tx_errors: counter(5)?,
        rx_dropped: counter(6)?,
        tx_dropped: counter(7)?,
    })
}

/// The XDP program of a link message, with its mode.
pub(crate) fn xdp(body: &[u8]) -> Result<Option<(XdpMode, u32)>, Malformed> {
    let Some(value) = attribute(body, IFLA_XDP)? else {
        return Ok(None);
    };
    let mode = match find(value, IFLA_XDP_ATTACHED)?.map(|v| u8_at(v, 0)).transpose()? {
        None | Some(XDP_ATTACHED_NONE) => return Ok(None),
        Some(XDP_ATTACHED_DRV) => XdpMode::Native,
        Some(XDP_ATTACHED_SKB) => XdpMode::Generic,
        Some(XDP_ATTACHED_HW) => XdpMode::Hardware,
        Some(_) => XdpMode::Several, // XDP_ATTACHED_MULTI: then IFLA_XDP_PROG_ID is absent
    };
    let program = find(value, IFLA_XDP_PROG_ID)?.map(|v| u32_at(v, 0)).transpose()?;
    Ok(Some((mode, program.unwrap_or(0))))
}

fn attribute(body: &[u8], wanted: u16) -> Result<Option<&[u8]>, Malformed> {
    find(
        body.get(HEADER..)
            .ok_or(Malformed("message shorter than its header"))?,
        wanted,
    )
}

/// The value of one of the attributes.
pub(super) fn find(attributes: &[u8], wanted: u16) -> Result<Option<&[u8]>, Malformed> {
    for attribute in Attributes::nested(attributes) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::constants::IFLA_INFO_KIND;
    use crate::netlink::socket::push_attribute;
    use crate::source::event::Detail;

    fn body(family: u8, flags: u32) -> Vec<u8> {
        let mut body = vec![family, 0, 1, 0];
        body.extend_from_slice(&7u32.to_ne_bytes());
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body
    }

    fn nest(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut nest = Vec::new();
        push_attribute(&mut nest, kind, value);
        nest
    }

    #[test]
    fn a_link_with_everything() {
        let mut body = body(0, IFF_UP | IFF_LOWER_UP);
        push_attribute(&mut body, IFLA_IFNAME, b"transit0\0");
        push_attribute(&mut body, IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        push_attribute(&mut body, IFLA_MTU, &9000u32.to_ne_bytes());
        push_attribute(&mut body, IFLA_MASTER, &3u32.to_ne_bytes());
        // The other end: a veth is not stacked on it.
        push_attribute(&mut body, IFLA_LINK, &8u32.to_ne_bytes());
        push_attribute(&mut body, IFLA_LINKINFO | 0x8000, &nest(IFLA_INFO_KIND, b"veth"));
        let conf: Vec<u8> = [1u32, 64, 1400, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
        push_attribute(&mut body, IFLA_AF_SPEC, &nest(10, &nest(IFLA_INET6_CONF, &conf)));
        let expected = Link {
            ifindex: 7,
            name: "transit0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            ethernet: true,
            admin_up: true,
            carrier: true,
            running: false,
            mtu: 9000,
            mtu6: 1400,
            kind: "veth".into(),
            master: Some(3),
            lower: None,
            detail: Detail::Plain,
            member: None,
        };
        assert_eq!(parse(&body), Ok(Some(expected)));
    }

    #[test]
    fn without_inet6_the_device_mtu_counts_and_a_tunnel_has_no_mac() {
        let mut body = body(0, 0);
        push_attribute(&mut body, IFLA_IFNAME, b"gre1\0");
        push_attribute(&mut body, IFLA_ADDRESS, &[192, 0, 2, 1]);
        push_attribute(&mut body, IFLA_MTU, &1476u32.to_ne_bytes());
        let link = parse(&body).unwrap().unwrap();
        assert_eq!((link.mtu6, link.mac), (1476, [0; 6]));
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_not_gone_and_a_wireless_event_is_no_link() {
        assert_eq!(index(&body(7, 0)), Ok(None));
        let mut event = body(0, 0);
        push_attribute(&mut event, IFLA_WIRELESS, &[0; 8]);
        assert_eq!(parse(&event), Ok(None));
        assert!(parse(&body(0, 0)).is_err());
    }

    #[test]
    fn no_program_is_none() {
        let mut none = body(0, 0);
        push_attribute(&mut none, IFLA_XDP, &nest(IFLA_XDP_ATTACHED, &[0]));
        assert_eq!(xdp(&none), Ok(None));
        let mut native = body(0, 0);
        let mut value = nest(IFLA_XDP_ATTACHED, &[XDP_ATTACHED_DRV]);
        push_attribute(&mut value, IFLA_XDP_PROG_ID, &42u32.to_ne_bytes());
        push_attribute(&mut native, IFLA_XDP, &value);
        assert_eq!(xdp(&native), Ok(Some((XdpMode::Native, 42))));
    }
}
