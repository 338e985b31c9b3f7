//! What a FlowSpec rule means: octets and extended communities of a neighbour, as a rule or a refusal with its words; and
//! the order of two of them.
#![no_main]

use std::cmp::Ordering;
use std::sync::Arc;

use forwarder::filter::flowspec::{Flow, nameless, precedence};
use forwarder::filter::ranges::Ranges;
use forwarder::filter::rule::{Action, FRAGMENT_MAX, Rule, TCP_FLAGS_MAX};
use forwarder::source::bgp::flow;
use forwarder::source::feed::{Attributes, FeedTable, FlowRule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Family and number of communities; communities; two rules, the length of the first in front.
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let table = if choice & 1 != 0 {
        FeedTable::FlowSpec6
    } else {
        FeedTable::FlowSpec4
    };
    let count = usize::from(choice >> 1 & 7) * 8;
    let Some((communities, data)) = data.split_at_checked(count) else {
        return;
    };
    let Some((first, second)) = flow::first(data) else {
        return;
    };
    let attributes = Arc::new(Attributes {
        extended: communities.as_chunks().0.to_vec(),
        ..Attributes::default()
    });
    let rules = [first, second].map(|nlri| FlowRule {
        table,
        nlri: nlri.to_vec(),
        attributes: Arc::clone(&attributes),
    });
    let flows = rules.each_ref().map(read);
    if let [Some(a), Some(b)] = &flows {
        let order = precedence(&a.components, &b.components);
        assert_eq!(order, precedence(&b.components, &a.components).reverse());
        assert_eq!(precedence(&a.components, &a.components), Ordering::Equal);
    }
});

fn read(rule: &FlowRule) -> Option<Flow<'_>> {
    let checked = flow::check(rule.table, &rule.nlri);
    assert!(!nameless(rule).is_empty());
    let Ok(flow) = Flow::read(rule) else {
        assert!(checked.is_err());
        return None;
    };
    assert!(checked.is_ok());
    let name = flow.name();
    assert!(!name.is_empty() && name.len() < 200 && name.is_ascii(), "{name}");
    match flow.rule(7) {
        Ok(rule) => sound(&rule),
        Err(why) => assert!(!why.to_string().is_empty()),
    }
    Some(flow)
}

/// Nothing in it lies outside its field, and no condition is one that nothing fulfils.
fn sound(rule: &Rule) {
    let when = &rule.when;
    let fields = [
        (&when.protocol, 0xff),
        (&when.port, 0xffff),
        (&when.destination_port, 0xffff),
        (&when.source_port, 0xffff),
        (&when.icmp_type, 0xff),
        (&when.icmp_code, 0xff),
        (&when.tcp_flags, TCP_FLAGS_MAX),
        (&when.length, 0xffff + 40),
        (&when.dscp, 63),
        (&when.fragment, FRAGMENT_MAX),
        (&when.flow_label, 0xf_ffff),
    ];
    for (ranges, most) in fields {
        if let Some(ranges) = ranges {
            assert!(!ranges.is_empty());
            assert_eq!(ranges.and(&Ranges::of([0..=most])), *ranges);
        }
    }
    for prefixes in [&when.destination, &when.source].into_iter().flatten() {
        assert!((1..=256).contains(&prefixes.len()));
        assert!(prefixes.iter().all(|prefix| *prefix == prefix.trunc()));
    }
    if let Action::Limit(rate) = rule.action {
        assert!(rate.per_second >= 1 && rate.burst >= 1 && rate.burst <= rate.per_second.max(1514));
    }
    assert!(rule.mark.is_none_or(|dscp| dscp < 64));
}
