//! Which route of a prefix counts, as the kernel announces and chooses.

use super::*;
use crate::source::route_tables::TABLE_LOCAL;

fn route(prefix: &str, metric: u32, gateway: &str) -> Route {
    let hop = Hop {
        ifindex: 2,
        gateway: Some(gateway.parse().expect("address")),
        weight: 1,
        dead: false,
        unsupported: false,
    };
    Route {
        prefix: prefix.parse().expect("prefix"),
        table: 254,
        metric,
        protocol: 12,
        tos: 0,
        mtu: None,
        action: Action::Hops(vec![hop]),
    }
}

fn gateway(rib: &KernelRoutes, prefix: &str) -> Option<String> {
    let found = rib.find(prefix.parse().expect("prefix"))?;
    if found.undecided {
        return Some("undecided".to_string());
    }
    match found.best.path.as_ref() {
        Path::Hops { hops, .. } => Some(hops[0].gateway?.to_string()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn the_lowest_metric_wins_and_the_next_takes_over() {
    let mut rib = KernelRoutes::default();
    let _ = rib.announce(route("192.0.2.0/24", 200, "198.51.100.2"), Change::Add);
    let _ = rib.announce(route("192.0.2.0/24", 100, "198.51.100.1"), Change::Add);
    assert_eq!(gateway(&rib, "192.0.2.0/24").as_deref(), Some("198.51.100.1"));
    assert!(rib.withdraw(&route("192.0.2.0/24", 100, "198.51.100.1")));
    assert_eq!(gateway(&rib, "192.0.2.0/24").as_deref(), Some("198.51.100.2"));
    assert!(rib.withdraw(&route("192.0.2.0/24", 200, "198.51.100.2")));
    assert!(rib.is_empty() && rib.kinds.is_empty());
}

#[test]
fn a_replace_takes_the_place_and_table_local_wins() {
    let mut rib = KernelRoutes::default();
    let _ = rib.announce(route("192.0.2.1/32", 0, "198.51.100.1"), Change::Add);
    let _ = rib.announce(route("192.0.2.1/32", 0, "198.51.100.9"), Change::Replace);
    assert_eq!(rib.routes("192.0.2.1/32".parse().expect("prefix")).len(), 1);
    let local = Route {
        table: TABLE_LOCAL,
        action: Action::Local,
        ..route("192.0.2.1/32", 0, "::")
    };
    let _ = rib.announce(local, Change::Add);
    assert_eq!(gateway(&rib, "192.0.2.1/32").as_deref(), Some("Special(Local)"));
}

#[test]
fn the_same_route_twice_is_one() {
    let mut rib = KernelRoutes::default();
    let _ = rib.announce(route("2001:db8::/32", 1024, "2001:db8::1"), Change::Add);
    let _ = rib.announce(route("2001:db8::/32", 1024, "2001:db8::1"), Change::Append);
    assert!(rib.withdraw(&route("2001:db8::/32", 1024, "2001:db8::1")));
    assert!(rib.is_empty());
    assert!(!rib.withdraw(&route("2001:db8::/32", 1024, "2001:db8::1")));
}

#[test]
fn a_route_for_one_tos_leaves_the_prefix_to_the_kernel() {
    let mut rib = KernelRoutes::default();
    let _ = rib.announce(route("192.0.2.0/24", 0, "198.51.100.1"), Change::Add);
    let _ = rib.announce(
        Route {
            tos: 8,
            ..route("192.0.2.0/24", 0, "198.51.100.2")
        },
        Change::Add,
    );
    assert_eq!(gateway(&rib, "192.0.2.0/24").as_deref(), Some("undecided"));
}

#[test]
fn the_loss_of_one_ipv6_hop_leaves_the_others() {
    let mut rib = KernelRoutes::default();
    let one = route("2001:db8::/32", 1024, "2001:db8:1::1");
    let two = route("2001:db8::/32", 1024, "2001:db8:1::2");
    let (Action::Hops(a), Action::Hops(b)) = (&one.action, &two.action) else {
        panic!("hops")
    };
    let both = Route {
        action: Action::Hops([a.as_slice(), b].concat()),
        ..one.clone()
    };
    let _ = rib.announce(both, Change::Add);
    assert!(rib.withdraw(&one));
    assert_eq!(gateway(&rib, "2001:db8::/32").as_deref(), Some("2001:db8:1::2"));
    assert!(rib.withdraw(&two));
    assert!(rib.is_empty() && rib.kinds.is_empty());
}

#[test]
fn a_new_equal_goes_first_in_ipv4_and_to_the_kernel_in_ipv6() {
    let mut rib = KernelRoutes::default();
    let _ = rib.announce(route("192.0.2.0/24", 0, "198.51.100.1"), Change::Add);
    let _ = rib.announce(route("192.0.2.0/24", 0, "198.51.100.2"), Change::Add);
    let _ = rib.announce(route("192.0.2.0/24", 0, "198.51.100.3"), Change::Append);
    assert_eq!(gateway(&rib, "192.0.2.0/24").as_deref(), Some("198.51.100.2"));
    let _ = rib.announce(route("2001:db8::/32", 0, "2001:db8:1::1"), Change::Add);
    let _ = rib.announce(route("2001:db8::/32", 0, "2001:db8:1::2"), Change::Append);
    assert_eq!(gateway(&rib, "2001:db8::/32").as_deref(), Some("undecided"));
    assert!(!rib.announce(route("2001:db8::/32", 0, "2001:db8:1::3"), Change::Replace));
}
