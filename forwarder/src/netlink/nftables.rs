//! nftables' chains that look at forwarded packets, by `NETLINK_NETFILTER` (include/uapi/linux/netfilter/nf_tables.h): what the fast
//! path forwards they do not see.

use std::collections::HashMap;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{
    Error, Malformed,
    dump::repeated,
    socket::{REQUEST_BUFFER, Socket},
    wire::{Attributes, Message, string, u8_at, u32_at},
};

/// `NFNL_SUBSYS_NFTABLES` in the upper octet of a message's type.
const NFTABLES: u16 = 10 << 8;
/// `NFT_MSG_NEWCHAIN`, `NFT_MSG_GETCHAIN`, `NFT_MSG_NEWRULE`, `NFT_MSG_GETRULE`.
const NEW_CHAIN: u16 = NFTABLES | 3;
const GET_CHAIN: u16 = NFTABLES | 4;
const NEW_RULE: u16 = NFTABLES | 6;
const GET_RULE: u16 = NFTABLES | 7;
/// `NFTA_CHAIN_TABLE`, `_NAME`, `_HOOK`, `_POLICY`, `_TYPE`.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
/// `NFTA_HOOK_HOOKNUM`.
const HOOK_NUMBER: u16 = 1;
/// `NFTA_RULE_TABLE`, `NFTA_RULE_CHAIN`.
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
/// Length of `struct nfgenmsg`: family, version, resource id.
const HEADER: usize = 4;

/// `enum nf_inet_hooks`.
const FORWARD: u32 = 2;
/// `NFPROTO_INET`, `_IPV4`, `_IPV6`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NFPROTO_NETDEV`: its hooks are ingress and egress of a device.
const NETDEV: u8 = 5;
/// `NF_DROP`.
const DROP: u32 = 0;

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its family as `nft` calls it: "ip", "ip6", "inet", "netdev".
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// "filter", "nat" or "route".
    pub kind: String,
    /// Its policy is to drop.
    pub drops: bool,
    /// Rules in it.
    pub rules: usize,
}

/// The chains that would do something to packets that the kernel forwards: filter chains of the hook forward and translations that have
/// rules or drop by policy, and those of devices (`netdev`).
///
/// # Errors
/// CAP_NET_ADMIN is missing, or the answer cannot be read. A kernel without nftables has none.
pub fn on_the_way() -> Result<Vec<Chain>, Error> {
    let chains = dump(GET_CHAIN, NEW_CHAIN, chain)?;
    let rules = dump(GET_RULE, NEW_RULE, rule)?;
    let mut counts: HashMap<(u8, String, String), usize> = HashMap::new();
    for key in rules {
        *counts.entry(key).or_default() += 1;
    }
    let counted = chains.into_iter().filter_map(|(family, mut chain)| {
        let key = (family, chain.table.clone(), chain.name.clone());
        chain.rules = counts.get(&key).copied().unwrap_or(0);
        (chain.rules > 0 || chain.drops).then_some(chain)
    });
    Ok(counted.collect())
}

fn dump<T>(
    request: u16,
    answer: u16,
    parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Vec<T>, Error> {
    repeated(|| {
        let mut found = Vec::new();
        let mut each = |message: &Message<'_>| {
            if message.kind == answer {
                found.extend(parse(message.body)?);
            }
            Ok(())
        };
        // Family 0 is every family.
        let result =
            Socket::speaking(NETLINK_NETFILTER, REQUEST_BUFFER)?.dump(request, &[0; HEADER], &mut each);
        match result {
            Ok(()) => Ok(found),
            // No nftables in this kernel.
            Err(Error::Refused {
                errno: libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT,
                ..
            }) => Ok(Vec::new()),
            Err(why) => Err(why),
        }
    })
}

/// A base chain on the way of forwarded packets, with its family's number.
fn chain(body: &[u8]) -> Result<Option<(u8, Chain)>, Malformed> {
    let number = u8_at(body, 0)?;
    let family = match number {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        NETDEV => "netdev",
        _ => return Ok(None),
    };
    let mut chain = Chain {
        family,
        table: String::new(),
        name: String::new(),
        kind: String::new(),
        drops: false,
        rules: 0,
    };
    let mut hook = None;
    for attribute in Attributes::behind(body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            CHAIN_TABLE => chain.table = string(value),
            CHAIN_NAME => chain.name = string(value),
            CHAIN_TYPE => chain.kind = string(value),
            CHAIN_POLICY => chain.drops = u32_at(value, 0)?.to_be() == DROP,
            CHAIN_HOOK => {
                for attribute in Attributes::nested(value) {
                    if let (HOOK_NUMBER, value) = attribute? {
                        hook = Some(u32_at(value, 0)?.to_be());
                    }
                }
            }
            _ => {}
        }
    }
    // Others are called by a chain that has a hook.
    let Some(hook) = hook else { return Ok(None) };
    let concerned = family == "netdev" || hook == FORWARD || chain.kind == "nat";
    Ok(concerned.then_some((number, chain)))
}

fn rule(body: &[u8]) -> Result<Option<(u8, String, String)>, Malformed> {
    let (mut table, mut chain) = (String::new(), String::new());
    for attribute in Attributes::behind(body, HEADER)? {
        match attribute? {
            (RULE_TABLE, value) => table = string(value),
            (RULE_CHAIN, value) => chain = string(value),
            _ => {}
        }
    }
    Ok(Some((u8_at(body, 0)?, table, chain)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::socket::push_attribute;

    fn body(family: u8, kind: &[u8], hook: Option<u32>, policy: u32) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        push_attribute(&mut body, CHAIN_TABLE, b"filter\0");
        push_attribute(&mut body, CHAIN_NAME, b"one\0");
        if let Some(hook) = hook {
            let mut nest = Vec::new();
            push_attribute(&mut nest, HOOK_NUMBER, &hook.to_be_bytes());
            push_attribute(&mut nest, 2, &0u32.to_be_bytes());
            push_attribute(&mut body, CHAIN_HOOK | 0x8000, &nest);
        }
        push_attribute(&mut body, CHAIN_POLICY, &policy.to_be_bytes());
        push_attribute(&mut body, CHAIN_TYPE, kind);
        body
    }

    #[test]
    fn chains_of_the_hook_forward_translations_and_devices_are_on_the_way() {
        let (number, found) = chain(&body(INET, b"filter\0", Some(FORWARD), DROP))
            .unwrap()
            .unwrap();
        assert_eq!(number, INET);
        assert_eq!(
            (found.family, found.table.as_str(), found.name.as_str()),
            ("inet", "filter", "one")
        );
        assert!(found.drops);
        let nat = chain(&body(IPV4, b"nat\0", Some(4), 1)).unwrap().unwrap().1;
        assert_eq!((nat.family, nat.kind.as_str(), nat.drops), ("ip", "nat", false));
        assert!(chain(&body(NETDEV, b"filter\0", Some(0), 1)).unwrap().is_some());
        // Local packets alone; a chain that others call; another family.
        assert_eq!(chain(&body(INET, b"filter\0", Some(1), DROP)).unwrap(), None);
        assert_eq!(chain(&body(INET, b"", None, 1)).unwrap(), None);
        assert_eq!(chain(&body(7, b"filter\0", Some(FORWARD), DROP)).unwrap(), None);
        assert!(chain(&[]).is_err());
    }
}
