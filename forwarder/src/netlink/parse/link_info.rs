//! `IFLA_LINKINFO` of a link message: its kind, what a VLAN, bond or macvlan says of itself, and what a bond says of it as
//! a member (include/uapi/linux/if_link.h).

use crate::netlink::Malformed;
use crate::netlink::constants::{
    BOND_LINK_UP, BOND_STATE_ACTIVE, ETH_P_8021AD, IFLA_BOND_ACTIVE_SLAVE, IFLA_BOND_AD_INFO,
    IFLA_BOND_AD_INFO_AGGREGATOR, IFLA_BOND_MODE, IFLA_BOND_SLAVE_AD_AGGREGATOR_ID,
    IFLA_BOND_SLAVE_MII_STATUS, IFLA_BOND_SLAVE_STATE, IFLA_BOND_XMIT_HASH_POLICY, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_MACVLAN_MODE, IFLA_VLAN_EGRESS_QOS,
    IFLA_VLAN_ID, IFLA_VLAN_INGRESS_QOS, IFLA_VLAN_PROTOCOL,
};
use crate::netlink::parse::link::find;
use crate::netlink::wire::{string, u8_at, u16_at, u32_at};
use crate::source::event::{Bond, Detail, Link, Member, Vlan};

/// Kinds that hand their frames to the link in `IFLA_LINK`. For a veth that is its peer, for a tunnel where it is bound to.
const STACKED: [&str; 6] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"];

/// See [`Link::lower`].
pub(super) fn is_stacked(kind: &str) -> bool {
    STACKED.contains(&kind)
}

/// Adds what `IFLA_LINKINFO` tells.
pub(super) fn parse(info: &[u8], link: &mut Link) -> Result<(), Malformed> {
    link.kind = find(info, IFLA_INFO_KIND)?.map(string).unwrap_or_default();
    let data = find(info, IFLA_INFO_DATA)?.unwrap_or_default();
    link.detail = match link.kind.as_str() {
        "vlan" => Detail::Vlan(vlan(data)?),
        "bond" => Detail::Bond(bond(data)?),
        "macvlan" => {
            Detail::Macvlan(required_u32(data, IFLA_MACVLAN_MODE, "macvlan without its mode")?.into())
        }
        _ => Detail::Plain,
    };
    link.member = match find(info, IFLA_INFO_SLAVE_KIND)?.map(string).as_deref() {
        Some("bond") => Some(member(find(info, IFLA_INFO_SLAVE_DATA)?.unwrap_or_default())?),
        _ => None,
    };
    Ok(())
}

fn vlan(data: &[u8]) -> Result<Vlan, Malformed> {
    let id = find(data, IFLA_VLAN_ID)?.ok_or(Malformed("VLAN without its number"))?;
    // Big endian, unlike everything around it (`nla_put_be16`).
    let protocol = find(data, IFLA_VLAN_PROTOCOL)?
        .map(|value| u16_at(value, 0))
        .transpose()?;
    let mut maps_priority = false;
    for map in [IFLA_VLAN_EGRESS_QOS, IFLA_VLAN_INGRESS_QOS] {
        maps_priority |= find(data, map)?.is_some_and(|mappings| !mappings.is_empty());
    }
    Ok(Vlan {
        id: u16_at(id, 0)?,
        service: protocol.map(u16::from_be) == Some(ETH_P_8021AD),
        maps_priority,
    })
}

fn bond(data: &[u8]) -> Result<Bond, Malformed> {
    let active = find(data, IFLA_BOND_ACTIVE_SLAVE)?
        .map(|value| u32_at(value, 0))
        .transpose()?;
    let lacp = find(data, IFLA_BOND_AD_INFO)?.unwrap_or_default();
    Ok(Bond {
        mode: required_u8(data, IFLA_BOND_MODE, "bond without its mode")?.into(),
        policy: required_u8(data, IFLA_BOND_XMIT_HASH_POLICY, "bond without its hash policy")?.into(),
        active: active.filter(|&index| index != 0),
        aggregator: aggregator(lacp, IFLA_BOND_AD_INFO_AGGREGATOR)?,
    })
}

fn member(data: &[u8]) -> Result<Member, Malformed> {
    let state = required_u8(data, IFLA_BOND_SLAVE_STATE, "member of a bond without its state")?;
    let link = required_u8(
        data,
        IFLA_BOND_SLAVE_MII_STATUS,
        "member of a bond without its MII status",
    )?;
    Ok(Member {
        active: state == BOND_STATE_ACTIVE,
        up: link == BOND_LINK_UP,
        aggregator: aggregator(data, IFLA_BOND_SLAVE_AD_AGGREGATOR_ID)?,
    })
}

/// They are numbered from 1; 0 is none (`__get_first_agg`, `ad_clear_agg`, drivers/net/bonding/bond_3ad.c).
fn aggregator(attributes: &[u8], wanted: u16) -> Result<Option<u16>, Malformed> {
    let number = find(attributes, wanted)?
        .map(|value| u16_at(value, 0))
        .transpose()?;
    Ok(number.filter(|&number| number != 0))
}

fn required_u8(attributes: &[u8], wanted: u16, without: &'static str) -> Result<u8, Malformed> {
    u8_at(find(attributes, wanted)?.ok_or(Malformed(without))?, 0)
}

fn required_u32(attributes: &[u8], wanted: u16, without: &'static str) -> Result<u32, Malformed> {
    u32_at(find(attributes, wanted)?.ok_or(Malformed(without))?, 0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::netlink::constants::{IFLA_IFNAME, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO};
    use crate::netlink::parse::link;
    use crate::netlink::socket::push_attribute;
    use crate::source::event::{BondMode, HashPolicy, MacvlanMode};

    /// One behind the other, as in a nest.
    fn all(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut octets = Vec::new();
        for (kind, value) in attributes {
            push_attribute(&mut octets, *kind, value);
        }
        octets
    }

    /// A link of this kind on link 5, with these attributes of its own.
    fn message(kind: &str, data: &[(u16, &[u8])], more: &[(u16, &[u8])]) -> Vec<u8> {
        let info = all(&[(IFLA_INFO_KIND, kind.as_bytes()), (IFLA_INFO_DATA, &all(data))]);
        let mut body = vec![0, 0, 1, 0, 9, 0, 0, 0, 67, 0, 1, 0, 0, 0, 0, 0];
        body.extend(all(&[(IFLA_IFNAME, b"up0\0"), (IFLA_LINK, &5u32.to_ne_bytes())]));
        body.extend(all(&[(IFLA_LINKINFO, &info)]));
        body.extend(all(more));
        body
    }

    fn detail(kind: &str, data: &[(u16, &[u8])]) -> Result<Detail, Malformed> {
        link::parse(&message(kind, data, &[])).map(|link| link.expect("a link").detail)
    }

    /// The attributes of `vlan_fill_info`, in its order, with an egress map of 6 to 5.
    pub fn vlan() -> Vec<u8> {
        let mapping = all(&[(1, &[6, 0, 0, 0, 5, 0, 0, 0])]);
        let data: [(u16, &[u8]); 4] = [
            (IFLA_VLAN_PROTOCOL, &[0x88, 0xa8]),
            (IFLA_VLAN_ID, &100u16.to_ne_bytes()),
            (2, &[1, 0, 0, 0, 255, 255, 255, 255]),
            (IFLA_VLAN_EGRESS_QOS | 0x8000, &mapping),
        ];
        message("vlan", &data, &[])
    }

    /// What a bond under LACP says, and a member of it; of `bond_fill_info` and `bond_fill_slave_info` also some that are
    /// not read.
    pub fn bond() -> Vec<u8> {
        let lacp = all(&[
            (IFLA_BOND_AD_INFO_AGGREGATOR, &2u16.to_ne_bytes()),
            (2, &2u16.to_ne_bytes()),
        ]);
        let data: [(u16, &[u8]); 5] = [
            (IFLA_BOND_MODE, &[4]),
            (3, &100u32.to_ne_bytes()),
            (IFLA_BOND_XMIT_HASH_POLICY, &[1]),
            (21, &[1]),
            (IFLA_BOND_AD_INFO | 0x8000, &lacp),
        ];
        message("bond", &data, &[])
    }

    /// A physical device that is a member.
    pub fn bonded(data: &[(u16, &[u8])]) -> Vec<u8> {
        let info = all(&[
            (IFLA_INFO_SLAVE_KIND, b"bond"),
            (IFLA_INFO_SLAVE_DATA, &all(data)),
        ]);
        let mut body = vec![0, 0, 1, 0, 3, 0, 0, 0, 67, 8, 1, 0, 0, 0, 0, 0];
        body.extend(all(&[(IFLA_IFNAME, b"eth0\0"), (IFLA_LINKINFO, &info)]));
        body
    }

    #[test]
    fn a_vlan_with_its_number_tag_and_maps() {
        let link = link::parse(&vlan()).unwrap().unwrap();
        assert_eq!(
            (link.kind.as_str(), link.lower, link.member),
            ("vlan", Some(5), None)
        );
        let expected = Vlan {
            id: 100,
            service: true,
            maps_priority: true,
        };
        assert_eq!(link.detail, Detail::Vlan(expected));
        let customer: [(u16, &[u8]); 3] = [
            (IFLA_VLAN_PROTOCOL, &[0x81, 0]),
            (IFLA_VLAN_ID, &4094u16.to_ne_bytes()),
            (IFLA_VLAN_INGRESS_QOS, &[]),
        ];
        let expected = Vlan {
            id: 4094,
            service: false,
            maps_priority: false,
        };
        assert_eq!(detail("vlan", &customer), Ok(Detail::Vlan(expected)));
        assert!(detail("vlan", &[]).is_err());
        assert!(detail("vlan", &[(IFLA_VLAN_ID, &[1])]).is_err());
    }

    #[test]
    fn a_bond_with_its_mode_policy_and_who_sends() {
        let link = link::parse(&bond()).unwrap().unwrap();
        let lacp = Bond {
            mode: BondMode::Lacp,
            policy: HashPolicy::Layer34,
            active: None,
            aggregator: Some(2),
        };
        // A bond is on no single link below.
        assert_eq!((link.detail, link.lower), (Detail::Bond(lacp), None));
        let backup: [(u16, &[u8]); 3] = [
            (IFLA_BOND_MODE, &[1]),
            (IFLA_BOND_ACTIVE_SLAVE, &3u32.to_ne_bytes()),
            (IFLA_BOND_XMIT_HASH_POLICY, &[77]),
        ];
        let expected = Bond {
            mode: BondMode::ActiveBackup,
            policy: HashPolicy::Other(77),
            active: Some(3),
            aggregator: None,
        };
        assert_eq!(detail("bond", &backup), Ok(Detail::Bond(expected)));
        for without in 0..backup.len() {
            let mut some = backup.to_vec();
            some.remove(without);
            // Only the active member may be absent.
            assert_eq!(detail("bond", &some).is_ok(), without == 1);
        }
        assert!(
            detail(
                "bond",
                &[(IFLA_BOND_MODE, &[]), (IFLA_BOND_XMIT_HASH_POLICY, &[0])]
            )
            .is_err()
        );
    }

    #[test]
    fn a_member_is_active_and_up_or_not() {
        let member = |data: &[(u16, &[u8])]| {
            link::parse(&bonded(data)).map(|link| link.expect("a link").member.expect("a member"))
        };
        let failures = (3, &7u32.to_ne_bytes()[..]);
        let sends: [(u16, &[u8]); 4] = [
            (IFLA_BOND_SLAVE_STATE, &[0]),
            (IFLA_BOND_SLAVE_MII_STATUS, &[0]),
            failures,
            (IFLA_BOND_SLAVE_AD_AGGREGATOR_ID, &2u16.to_ne_bytes()),
        ];
        let expected = Member {
            active: true,
            up: true,
            aggregator: Some(2),
        };
        assert_eq!(member(&sends), Ok(expected));
        for down in [1, 2, 3] {
            let waits: [(u16, &[u8]); 2] = [
                (IFLA_BOND_SLAVE_STATE, &[1]),
                (IFLA_BOND_SLAVE_MII_STATUS, &[down]),
            ];
            let expected = Member {
                active: false,
                up: false,
                aggregator: None,
            };
            assert_eq!(member(&waits), Ok(expected));
        }
        assert!(member(&[failures]).is_err());
        // Of another master there is nothing to know.
        let info = all(&[
            (IFLA_INFO_SLAVE_KIND, b"bridge"),
            (IFLA_INFO_SLAVE_DATA, &[1, 2, 3]),
        ]);
        let mut link = Link::default();
        assert_eq!(parse(&info, &mut link), Ok(()));
        assert_eq!(link, Link::default());
    }

    #[test]
    fn the_link_below_counts_where_it_is_here() {
        let mode: [(u16, &[u8]); 1] = [(IFLA_MACVLAN_MODE, &2u32.to_ne_bytes())];
        let lower = |more: &[(u16, &[u8])]| {
            let link = link::parse(&message("macvlan", &mode, more)).unwrap().unwrap();
            assert_eq!(link.detail, Detail::Macvlan(MacvlanMode::Vepa));
            link.lower
        };
        assert_eq!(lower(&[]), Some(5));
        assert_eq!(lower(&[(IFLA_LINK_NETNSID, &0u32.to_ne_bytes())]), None);
        assert!(detail("macvlan", &[]).is_err());
        for kind in ["veth", "vxlan", "gre"] {
            assert_eq!(
                link::parse(&message(kind, &[], &[])).unwrap().unwrap().lower,
                None
            );
        }
    }
}
