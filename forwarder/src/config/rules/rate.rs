//! Rates and bursts: numbers with a unit, as `tc` writes them.

use super::Unit;

/// What is wrong with one, and what to write.
#[derive(Debug)]
pub(in crate::config) struct Fault {
    pub message: String,
    pub advice: String,
}

fn fault<T>(message: String, advice: &str) -> Result<T, Fault> {
    Err(Fault {
        message,
        advice: advice.to_string(),
    })
}

/// Most bits a second, and the frames of 84 octets, gaps included, that this is.
const MOST_BITS: u128 = 10_000_000_000_000;
const MOST_PACKETS: u128 = 15_000_000_000;
/// Octets of a full Ethernet frame without FCS.
const FRAME: u64 = 1_514;
/// Longest burst, as seconds of its rate.
const LONGEST: u64 = 60;

const RATES: &[(&str, Unit, u128)] = &[
    ("bit", Unit::Bytes, 1),
    ("kbit", Unit::Bytes, 1_000),
    ("Mbit", Unit::Bytes, 1_000_000),
    ("Gbit", Unit::Bytes, 1_000_000_000),
    ("Tbit", Unit::Bytes, 1_000_000_000_000),
    ("pps", Unit::Packets, 1),
    ("kpps", Unit::Packets, 1_000),
    ("Mpps", Unit::Packets, 1_000_000),
];
const RATE_ADVICE: &str = "write \"10Mbit\" or \"5000pps\"; units: bit, kbit, Mbit, Gbit, Tbit, pps, kpps, Mpps, \
                           each for a second";

const BURSTS: &[(&str, Unit, u128)] = &[
    ("B", Unit::Bytes, 1),
    ("kB", Unit::Bytes, 1_000),
    ("MB", Unit::Bytes, 1_000_000),
    ("GB", Unit::Bytes, 1_000_000_000),
    ("KiB", Unit::Bytes, 1 << 10),
    ("MiB", Unit::Bytes, 1 << 20),
    ("GiB", Unit::Bytes, 1 << 30),
    ("p", Unit::Packets, 1),
];
const BURST_ADVICE: &str = "write \"64kB\", or \"100p\" for packets; units: B, kB, MB, GB, KiB, MiB, GiB, p";

/// A rate: what it counts, and how many each second.
pub(super) fn rate(text: &str) -> Result<(Unit, u64), Fault> {
    let (unit, per_second) = bandwidth(text)?;
    if per_second == 0 {
        return fault(
            format!("a rate of {text:?} lets nothing through"),
            "write action = \"drop\", or a rate",
        );
    }
    Ok((unit, per_second))
}

/// The same where none at all means something, too.
pub(in crate::config) fn bandwidth(text: &str) -> Result<(Unit, u64), Fault> {
    let (number, unit) = quantity(text, "a rate", RATES, RATE_ADVICE)?;
    let most = match unit {
        Unit::Bytes => MOST_BITS,
        Unit::Packets => MOST_PACKETS,
    };
    if number > most {
        return fault(
            format!("the rate {text:?} is out of range"),
            "the largest are \"10Tbit\" and \"15000Mpps\"",
        );
    }
    let per_second = match unit {
        Unit::Packets => number,
        Unit::Bytes if number.is_multiple_of(8) => number / 8,
        Unit::Bytes => {
            return fault(
                format!("the rate {text:?} is no whole number of octets a second"),
                "write a multiple of \"8bit\"",
            );
        }
    };
    Ok((unit, per_second as u64))
}

/// A rate that counts packets, and how many each second.
pub(in crate::config) fn packets(text: &str) -> Result<u64, Fault> {
    const ADVICE: &str = "write \"5000pps\"; units: pps, kpps, Mpps, each for a second";
    let (number, unit) = quantity(text, "a rate", RATES, ADVICE)?;
    match (unit, u64::try_from(number)) {
        (Unit::Bytes, _) => fault(
            format!("the rate {text:?} is in bits, and packets are counted here"),
            ADVICE,
        ),
        (Unit::Packets, number) => Ok(number.unwrap_or(u64::MAX)),
    }
}

/// Ten milliseconds of the rate, but no less than a frame.
pub(super) fn default_burst(unit: Unit, per_second: u64) -> u64 {
    (per_second / 100).max(least(unit))
}

/// A burst for a rate.
pub(super) fn burst(text: &str, unit: Unit, per_second: u64) -> Result<u64, Fault> {
    let (number, counts) = quantity(text, "a burst", BURSTS, BURST_ADVICE)?;
    if counts != unit {
        let (advice, counted) = match unit {
            Unit::Bytes => ("write the burst in octets, as \"64kB\"", "octets"),
            Unit::Packets => ("write the burst in packets, as \"100p\"", "packets"),
        };
        return fault(
            format!("the burst {text:?} does not go with a rate of {counted}"),
            advice,
        );
    }
    let least = least(unit);
    if number < u128::from(least) {
        return match unit {
            Unit::Bytes => fault(
                format!("a full frame would never pass with a burst of {text:?}"),
                &format!("write \"{least}B\" or more"),
            ),
            Unit::Packets => fault(
                format!("nothing would ever pass with a burst of {text:?}"),
                "write \"1p\" or more",
            ),
        };
    }
    let most = per_second.saturating_mul(LONGEST).max(least);
    match u64::try_from(number) {
        Ok(burst) if burst <= most => Ok(burst),
        _ => fault(
            format!("the burst {text:?} is more than comes in a minute at that rate"),
            "write what may come at once; without the line it is 10 ms of the rate",
        ),
    }
}

const fn least(unit: Unit) -> u64 {
    match unit {
        Unit::Bytes => FRAME,
        Unit::Packets => 1,
    }
}

/// Reads a number with one of these units; units may be in capitals or not, as with `tc`.
fn quantity(
    text: &str,
    what: &str,
    units: &[(&str, Unit, u128)],
    advice: &str,
) -> Result<(u128, Unit), Fault> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, word) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return fault(format!("`{text}` is not {what}"), advice);
    }
    if word.is_empty() {
        return fault(format!("`{text}` has no unit"), advice);
    }
    let Some((_, unit, scale)) = units.iter().find(|(name, ..)| name.eq_ignore_ascii_case(word)) else {
        return fault(format!("`{word}` is no unit of {what}"), advice);
    };
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if fraction.len() > 9 {
        return fault(format!("`{text}` has more digits than are looked at"), advice);
    }
    // Beyond every range, and more would not fit when it is multiplied.
    if whole.len() > 15 {
        return Ok((u128::MAX, *unit));
    }
    let digits = |digits: &str| digits.parse::<u128>().unwrap_or(0);
    let parts = 10u128.pow(fraction.len() as u32);
    let scaled = (digits(whole) * parts + digits(fraction)) * scale;
    if !scaled.is_multiple_of(parts) {
        return fault(format!("`{text}` is no whole number"), advice);
    }
    Ok((scaled / parts, *unit))
}
