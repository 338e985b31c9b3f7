//! Golden packets through the live program.

use forwarder::{
    dataplane::Sizes,
    source::event::{Action, Change, Event, Hop, Route},
};
use forwarder_tests::{
    frame,
    sandbox::{Sandbox, mac, neighbour_mac},
};

#[test]
fn a_routed_packet_leaves_rewritten_and_counted() -> anyhow::Result<()> {
    let mut sandbox = Sandbox::new(Sizes::SMALL)?;
    let inside = sandbox.interface("in0", 0, 1500)?;
    let outside = sandbox.interface("out0", 0, 1500)?;
    let gateway = "203.0.113.1";
    let hop = Hop {
        ifindex: outside,
        gateway: Some(gateway.parse()?),
        weight: 1,
        dead: false,
        unsupported: false,
    };
    let route = Route {
        prefix: "5.0.0.0/8".parse()?,
        table: 254,
        metric: 0,
        protocol: 12,
        tos: 0,
        mtu: None,
        action: Action::Hops(vec![hop]),
    };
    sandbox.engine.apply(Event::Route { route, change: Change::Add }, &mut Vec::new());
    sandbox.neighbour(outside, gateway);
    let macs = (mac(inside), [2, 0, 0, 0, 0, 9]);
    let packet = frame::ipv4(macs, "192.0.2.1".parse()?, "5.6.7.8".parse()?, frame::UDP, 64, &frame::udp(1, 2, 30));
    let (action, out) = sandbox.programs.run(inside, &packet)?;
    assert_eq!(action, 4);
    let mut expected = packet.clone();
    expected[..6].copy_from_slice(&neighbour_mac(gateway.parse()?));
    expected[6..12].copy_from_slice(&mac(outside));
    expected[22] = 63;
    frame::fix_checksum(&mut expected);
    assert_eq!(out, expected);
    println!("verified instructions: {}", sandbox.programs.verified_instructions()?);
    Ok(())
}
