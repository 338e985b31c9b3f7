//! `struct fib_rule_hdr` and `FRA_*` (include/uapi/linux/fib_rules.h).

use crate::netlink::Malformed;
use crate::netlink::command::Rule;
use crate::netlink::constants::{
    AF_INET, AF_INET6, FR_ACT_TO_TBL, FRA_DST, FRA_FWMARK, FRA_GOTO, FRA_IIFNAME, FRA_PRIORITY, FRA_PROTOCOL,
    FRA_SRC, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_TUN_ID,
};
use crate::netlink::wire::{Attributes, u8_at, u32_at};

/// Length of `struct fib_rule_hdr`.
pub(crate) const HEADER: usize = 12;

/// A policy rule; `None` for other families (multicast routing has rules too).
pub(crate) fn parse(body: &[u8]) -> Result<Option<Rule>, Malformed> {
    let family = u8_at(body, 0)?;
    if ![AF_INET, AF_INET6].contains(&family) {
        return Ok(None);
    }
    let (mut priority, mut table, mut selective) = (0, u32::from(u8_at(body, 4)?), false);
    for attribute in Attributes::behind(body, HEADER)? {
        match attribute? {
            (FRA_PRIORITY, value) => priority = u32_at(value, 0)?,
            (FRA_TABLE, value) => table = u32_at(value, 0)?,
            (FRA_PROTOCOL, _) => {}
            // Always present, and -1 where it does nothing.
            (FRA_SUPPRESS_PREFIXLEN | FRA_SUPPRESS_IFGROUP, value) => {
                selective |= u32_at(value, 0)? != u32::MAX
            }
            // Source, interface, mark, ports, what later kernels invent: the rule asks about more than the destination.
            (FRA_DST | FRA_SRC | FRA_IIFNAME | FRA_GOTO | FRA_FWMARK..=FRA_TUN_ID, _) => selective = true,
            (kind, _) => selective |= kind > FRA_TABLE,
        }
    }
    let (dst_len, src_len, tos, action) =
        (u8_at(body, 1)?, u8_at(body, 2)?, u8_at(body, 3)?, u8_at(body, 7)?);
    let flags = u32_at(body, 8)?;
    let plain = !selective && [dst_len, src_len, tos] == [0; 3] && action == FR_ACT_TO_TBL && flags == 0;
    Ok(Some(Rule {
        ipv6: family == AF_INET6,
        priority,
        table,
        plain,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::socket::push_attribute;

    fn body(table: u8, priority: u32, tos: u8) -> Vec<u8> {
        let mut body = vec![AF_INET, 0, 0, tos, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        push_attribute(&mut body, FRA_PRIORITY, &priority.to_ne_bytes());
        push_attribute(&mut body, FRA_TABLE, &u32::from(table).to_ne_bytes());
        push_attribute(&mut body, FRA_SUPPRESS_PREFIXLEN, &[0xff; 4]);
        push_attribute(&mut body, FRA_PROTOCOL, &[2]);
        body
    }

    #[test]
    fn a_rule_is_plain_without_any_selector() {
        assert!(parse(&body(255, 0, 0)).unwrap().unwrap().plain);
        assert!(parse(&body(100, 1000, 0)).unwrap().unwrap().plain);
        assert!(!parse(&body(254, 32766, 16)).unwrap().unwrap().plain);
        for selector in [FRA_SRC, FRA_FWMARK, 23 /* FRA_SPORT_RANGE */, 99] {
            let mut body = body(254, 32766, 0);
            push_attribute(&mut body, selector, &[0; 4]);
            assert!(!parse(&body).unwrap().unwrap().plain, "{selector}");
        }
        let mut suppressed = body(254, 1000, 0);
        push_attribute(&mut suppressed, FRA_SUPPRESS_PREFIXLEN, &[0; 4]);
        assert!(!parse(&suppressed).unwrap().unwrap().plain);
    }
}
