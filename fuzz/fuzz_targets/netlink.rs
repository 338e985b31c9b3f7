//! A datagram of the kernel: once as it is, once as the body of a message whose kind the first octets choose, so that
//! lengths which must agree do not stand in the way.
#![no_main]

use forwarder::netlink::{relayed, watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut events = Vec::new();
    let _ = watch::read_datagram(data, &mut events);
    let _ = relayed::messages(data).count();
    let Some((&[kind, flags], body)) = data.split_first_chunk() else {
        return;
    };
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(u16::from(kind % 128).to_ne_bytes());
    message.extend((u16::from(flags) << 4).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    let _ = watch::read_datagram(&message, &mut events);
    let _ = relayed::messages(&message).count();
});
