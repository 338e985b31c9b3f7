//! Which first octets some addresses have. That tells of nearly every prefix of a full table that none of them is inside it, in
//! one look, where a tree takes several.

use std::net::IpAddr;

use ipnet::IpNet;

/// First octets of addresses, IPv4 and IPv6. None is ever forgotten: that costs a look in vain.
#[derive(Default)]
pub struct FirstOctets([[u64; 4]; 2]);

impl FirstOctets {
    /// There is this address.
    pub fn note(&mut self, address: IpAddr) {
        let (family, octet) = place(address);
        self.0[family][octet / 64] |= 1 << (octet % 64);
    }

    /// Whether any may be inside a prefix; if not, none is.
    pub fn may_hold(&self, prefix: IpNet) -> bool {
        let (family, octet) = place(prefix.addr());
        prefix.prefix_len() < 8 || self.0[family][octet / 64] >> (octet % 64) & 1 == 1
    }
}

fn place(address: IpAddr) -> (usize, usize) {
    match address {
        IpAddr::V4(v4) => (0, usize::from(v4.octets()[0])),
        IpAddr::V6(v6) => (1, usize::from(v6.octets()[0])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_that_holds_an_address_is_denied_and_few_others_are_not() {
        let mut octets = FirstOctets::default();
        for address in ["192.0.2.1", "fd00::1", "127.0.0.1"] {
            octets.note(address.parse().expect("address"));
        }
        let may = |prefix: &str| octets.may_hold(prefix.parse().expect("prefix"));
        for prefix in [
            "192.0.2.1/32",
            "192.0.0.0/8",
            "128.0.0.0/1",
            "fd00::/8",
            "::/0",
            "127.0.0.0/9",
        ] {
            assert!(may(prefix), "{prefix}");
        }
        for prefix in [
            "193.0.0.0/8",
            "128.0.2.0/24",
            "fc00::/8",
            "2001:db8::/32",
            "c000::/8",
        ] {
            assert!(!may(prefix), "{prefix}");
        }
    }
}
