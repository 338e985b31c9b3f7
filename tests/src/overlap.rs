//! A feed and the kernel that have the same prefixes: the feed sends them by b, the kernel by c. What is tried with every kind
//! of feed.

use std::{fmt::Write as _, ops::Range};

use anyhow::{Result, ensure};

use crate::{
    lab::Lab,
    operator::{forwarded, row, settle},
    traffic::{self, Traffic, cross},
};

/// Prefixes of each family that both have.
pub const BOTH: u8 = 12;
/// Those that the feed still has when its table has become another.
pub const STILL: Range<u8> = 0..6;
/// Where traffic goes meanwhile: of each family a prefix that the feed still has afterwards, and one that it has no more.
const TO: [&str; 4] = ["5.1.1.9", "5.1.7.9", "2a05:0:1::9", "2a05:0:7::9"];
const GONE: [(&str, &str); 2] = [("5.1.7.9", "10.3.0.2"), ("2a05:0:7::9", "fd00:3::2")];

/// The common prefixes of this number: IPv4 and IPv6.
#[must_use]
pub fn prefixes(number: u8) -> [String; 2] {
    [format!("5.1.{number}.0/24"), format!("2a05:0:{number:x}::/48")]
}

/// The router, whose kernel has these lines of routes, and each common prefix by c, with these options.
///
/// # Errors
/// As [`Lab::new`].
pub fn lab(more: &str, options: &str) -> Result<Lab> {
    let lab = Lab::new()?;
    let mut lines = more.to_string();
    for [v4, v6] in (0..BOTH).map(prefixes) {
        writeln!(lines, "route add {v4} via 10.3.0.2 {options}")?;
        writeln!(lines, "route add {v6} via fd00:3::2 {options}")?;
    }
    lab.batch("router", &lines)?;
    lab.resolve_carriers()?;
    Ok(lab)
}

/// A packet to each common prefix: those of these numbers arrive at b, the others at c; and each was forwarded by the
/// program, and counted for its next hop.
///
/// # Errors
/// They do not.
pub fn follow(lab: &Lab, numbers: Range<u8>) -> Result<()> {
    let inside = |number: u8| [format!("5.1.{number}.9"), format!("2a05:0:{number:x}::9")];
    for number in 0..BOTH {
        let by_feed = numbers.contains(&number);
        let [v4, v6] = inside(number);
        settle(lab, &v4, &[if by_feed { "10.2.0.2" } else { "10.3.0.2" }])?;
        settle(lab, &v6, &[if by_feed { "fd00:2::2" } else { "fd00:3::2" }])?;
    }
    let counted = || -> Result<[i64; 3]> {
        let hop = |address| row(lab, "counters --by next-hop", "nexthop", address);
        let packets = |address| Ok::<_, anyhow::Error>(hop(address)?["packets"].as_i64().unwrap_or(0));
        Ok([
            forwarded(lab, "a")?,
            packets("10.2.0.2")? + packets("fd00:2::2")?,
            packets("10.3.0.2")? + packets("fd00:3::2")?,
        ])
    };
    let (from, b, c) = (lab.wire("a")?, lab.wire("b")?, lab.wire("c")?);
    let before = counted()?;
    for number in 0..BOTH {
        for to in inside(number) {
            let end = cross(&from, [&b, &c], to.parse()?, u64::from(number))?;
            ensure!((end == 0) == numbers.contains(&number), "{to} went to end {end}");
        }
    }
    let by_feed = 2 * numbers.len() as i64;
    let all = 2 * i64::from(BOTH);
    let after = counted()?;
    let moved = [0, 1, 2].map(|at| after[at] - before[at]);
    ensure!(
        moved == [all, by_feed, all - by_feed],
        "{moved:?}\n{}",
        lab.picture()
    );
    Ok(())
}

/// Traffic flows while `work` makes the feed's table another, of [`STILL`] alone, out of our hearing: what it still has never
/// leaves its way, the rest goes by the kernel's routes in the end, and every packet is forwarded by the program.
///
/// # Errors
/// It is otherwise, or `work` fails.
pub fn another_table<T>(lab: &Lab, work: impl FnOnce(&Traffic<'_>) -> Result<T>) -> Result<T> {
    let before = forwarded(lab, "a")?;
    let (done, arrived) = traffic::under(lab, &TO, |traffic| {
        traffic.flow(20)?;
        let done = work(traffic)?;
        for (address, gateway) in GONE {
            settle(lab, address, &[gateway])?;
        }
        let moved = traffic.flow(20)?;
        ensure!(moved[1][0] == 0 && moved[3][0] == 0, "{moved:?}");
        Ok(done)
    })?;
    ensure!(
        arrived[0][1] == 0 && arrived[2][1] == 0,
        "what both tables have must never have left its way: {arrived:?}"
    );
    traffic::all_forwarded(lab, before, &arrived)?;
    follow(lab, STILL)?;
    Ok(done)
}

/// For a while everything goes by the feed's way.
///
/// # Errors
/// Something does not: `otherwise` says what that means.
pub fn kept(traffic: &Traffic<'_>, otherwise: &str) -> Result<()> {
    let moved = traffic.flow(50)?;
    ensure!(moved.iter().all(|[_, c]| *c == 0), "{otherwise}: {moved:?}");
    Ok(())
}
