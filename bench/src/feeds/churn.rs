//! 10,000 updates a second on top of the full table, and whether all of them are in force when the last was said.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::interrupt;
use xtask::progress::Progress;

use super::speaker::Speaker;
use super::truth::{Place, Truth};
use crate::random::Random;
use crate::table::{GATEWAYS, Table};

/// Updates a second.
pub const RATE: usize = 10_000;
/// For how long, seconds.
pub const TIME: usize = 60;
/// Updates that are said together: a hundredth of a second's.
const TOGETHER: usize = RATE / 100;
/// One prefix in so many is not announced at the beginning.
const ABSENT: usize = 20;

/// Takes one prefix in so many out.
pub fn thin(truth: &mut Truth<'_>) {
    let mut random = Random::new(5);
    for gateways in &mut truth.gateways {
        gateways.iter_mut().for_each(|gateway| {
            if random.below(ABSENT) == 0 {
                *gateway = None;
            }
        });
    }
}

/// Says the updates: random prefixes, of which those that are announced mostly get another gateway and one in eight goes, and
/// those that are not come. Answers when the last was said, and which prefix that was about; the truth is what they leave.
///
/// # Errors
/// The session is lost.
pub fn churn(
    speaker: &mut Speaker,
    tables: &[Table; 2],
    addresses: &[[IpAddr; GATEWAYS]; 2],
    truth: &mut Truth<'_>,
) -> Result<(Instant, Place)> {
    let mut random = Random::new(7);
    let all = tables[0].prefixes.len() + tables[1].prefixes.len();
    let mut progress = Progress::new(format!("{RATE} updates a second"));
    let start = Instant::now();
    for number in 0..RATE * TIME {
        if number % TOGETHER == 0 {
            speaker.flush()?;
            interrupt::check()?;
            let due = start + Duration::from_secs_f64(number as f64 / RATE as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            progress.detail(&format!("{number} of {}", RATE * TIME));
        }
        let any = random.below(all);
        let (family, at) = match any.checked_sub(tables[0].prefixes.len()) {
            Some(at) => (1, at),
            None => (0, any),
        };
        let table = &tables[family];
        let (prefix, origin) = (&table.prefixes[at], table.origins[at]);
        let gateway = &mut truth.gateways[family][at];
        if gateway.is_some() && random.below(8) == 0 {
            *gateway = None;
            speaker.withdraw(table.family, prefix)?;
        } else {
            let next = (gateway.unwrap_or(0) + 1 + random.below(GATEWAYS - 1)) % GATEWAYS;
            *gateway = Some(next);
            speaker.announce(table.family, &[prefix], addresses[family][next], origin)?;
        }
    }
    // The last is one that can be waited for: no longer prefix answers for its first address.
    let family = 0;
    let table = &tables[family];
    let at = table.prefixes.len() - 1;
    let next = truth.gateways[family][at].map_or(0, |gateway| (gateway + 1) % GATEWAYS);
    truth.gateways[family][at] = Some(next);
    let origin = table.origins[at];
    speaker.announce(
        table.family,
        &[&table.prefixes[at]],
        addresses[family][next],
        origin,
    )?;
    speaker.flush()?;
    Ok((
        Instant::now(),
        Place {
            family,
            at,
            owner: Some(at),
        },
    ))
}
