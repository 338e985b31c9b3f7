//! Known traffic: a sender that writes down what it sent, by prefix, source, interface and account. Counters, metrics, the
//! history and its reports say the same, to the packet and the octet, although routes come, go and move meanwhile and the
//! controller is killed in between, right after slots of counters were given to other prefixes.
//!
//! ```text
//!   30.0.0.0/8 --- a | router | b, c --- 20.0.0.0/8 and more specific prefixes that come and go
//! ```

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    frame::{UDP, ipv4, ipv6, udp},
    lab::{HOSTS, LIMIT, Lab, run},
    operator::patient,
    packets::Wire,
    random::Random,
};
use serde_json::Value;

/// Networks on either side.
const NETWORKS: usize = 24;
/// Packets of a round, and rounds: longer than three intervals of the history together.
const PACKETS: usize = 240;
const ROUNDS: usize = 12;
const ROUND: Duration = Duration::from_secs(3);
/// The rounds before which the controller is killed, and started again.
const KILLED: usize = 5;
const STARTED: usize = 7;

const CONFIG: &str = r#"
[filter]
bogons = false

[statistics]
sources = true

[metrics]
prefixes = ["20.0.0.0/16", "2a20:1::/32"]

[[account]]
name = "garden"
prefixes = ["30.0.0.0/16", "2a30:1::/32", "30.4.0.0/16"]

[[account]]
name = "garden/pond"
prefixes = ["30.2.0.0/16", "2a30:3::/32"]
"#;

/// Packets and octets by what they are counted for: `("to", "20.4.0.0/16")`, `("in", "a")`.
type Sent = BTreeMap<(&'static str, String), (u64, u64)>;

/// The even ones are IPv4.
fn network(first: u16, number: usize) -> (String, IpAddr) {
    if number.is_multiple_of(2) {
        let address = Ipv4Addr::new(first as u8, number as u8, 7, 9);
        (format!("{first}.{number}.0.0/16"), address.into())
    } else {
        let word = 0x2a00 + first / 10 * 16;
        let address = Ipv6Addr::new(word, number as u16, 0, 0, 0, 0, 0, 9);
        (format!("{word:x}:{number:x}::/32"), address.into())
    }
}

/// Where a network beyond b and c is reached.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// By the route that covers it, at b.
    Covered,
    /// By its own.
    Own(usize),
}

struct Sender<'a> {
    lab: &'a Lab,
    wires: Vec<Wire>,
    ways: [Way; NETWORKS],
    random: Random,
    sent: Sent,
}

impl Sender<'_> {
    fn gateway(host: usize, number: usize) -> String {
        let cable = host + 1;
        if number.is_multiple_of(2) {
            format!("10.{cable}.0.2")
        } else {
            format!("fd00:{cable}::2")
        }
    }

    /// Changes some routes, and waits until the table has followed.
    fn churn(&mut self, follow: bool) -> Result<()> {
        for _ in 0..4 {
            let number = self.random.below(NETWORKS);
            let (prefix, address) = network(20, number);
            let way = *self.random.pick(&[Way::Covered, Way::Own(1), Way::Own(2)]);
            match way {
                Way::Covered if self.ways[number] == Way::Covered => continue,
                Way::Covered => self.lab.ip("router", &format!("route del {prefix}"))?,
                Way::Own(host) => {
                    let gateway = Sender::gateway(host, number);
                    self.lab
                        .ip("router", &format!("route replace {prefix} via {gateway}"))?;
                }
            }
            self.ways[number] = way;
            if !follow {
                continue;
            }
            let (prefix, host) = self.beyond(number);
            self.follows(address, &prefix, HOSTS[host])?;
        }
        Ok(())
    }

    /// Waits until packets to an address go to that prefix there. Where the kernel and the table differ yet, `lookup` fails.
    fn follows(&self, address: IpAddr, prefix: &str, host: &str) -> Result<()> {
        self.lab.wait(&format!("{prefix} to be at {host}"), || {
            let rows = self.lab.json(&format!("lookup {address}"));
            let there = |rows: Value| rows[0]["prefix"] == prefix && rows[0]["ifname"] == host;
            Ok(rows.is_ok_and(there).then_some(()))
        })
    }

    /// Takes prefixes away that have just counted, and lets others have their slots: what they counted is in no sample yet.
    fn reuse(&mut self) -> Result<()> {
        let own: Vec<usize> = (0..NETWORKS)
            .filter(|number| self.ways[*number] != Way::Covered)
            .take(6)
            .collect();
        for number in own {
            let (prefix, address) = network(20, number);
            self.lab.ip("router", &format!("route del {prefix}"))?;
            self.ways[number] = Way::Covered;
            let (prefix, host) = self.beyond(number);
            self.follows(address, &prefix, HOSTS[host])?;
        }
        // A slot is given out again after a grace period, and the one that came free last first.
        for number in 0..12u8 {
            let prefix = format!("20.{}.0.0/16", 100 + number);
            self.lab
                .ip("router", &format!("route replace {prefix} via 10.2.0.2"))?;
            let address = Ipv4Addr::new(20, 100 + number, 7, 9);
            self.follows(address.into(), &prefix, HOSTS[1])?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The prefix that a network beyond b and c is counted for, and where it is.
    fn beyond(&self, number: usize) -> (String, usize) {
        match self.ways[number] {
            Way::Own(host) => (network(20, number).0, host),
            Way::Covered if number.is_multiple_of(2) => ("20.0.0.0/8".into(), 1),
            Way::Covered => ("2a20::/16".into(), 1),
        }
    }

    fn note(&mut self, what: &'static str, name: &str, octets: usize) {
        let row = self.sent.entry((what, name.to_string())).or_default();
        row.0 += 1;
        row.1 += octets as u64;
    }

    /// Sends a round's packets there and back, and waits until every one has arrived.
    fn round(&mut self) -> Result<()> {
        let mut due = [0; 3];
        for number in 0..PACKETS {
            let v6 = self.random.below(2);
            let near = self.random.below(NETWORKS / 2) * 2 + v6;
            let far = self.random.below(NETWORKS / 2) * 2 + v6;
            let (near_prefix, near_address) = network(30, near);
            let (far_prefix, host) = self.beyond(far);
            let far_address = network(20, far).1;
            let out = self.random.below(3) > 0;
            let (from, to, source, destination) = match out {
                true => (0, host, near_address, far_address),
                false => (1 + self.random.below(2), 0, far_address, near_address),
            };
            let cable = from as u8 + 1;
            let macs = ([2, 0, 0, 0, cable, 1], [2, 0, 0, 0, cable, 2]);
            let payload = udp(1024, 53, 20 + self.random.below(1_200));
            let packet = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(to)) => ipv4(macs, source, to, UDP, 64, &payload),
                (IpAddr::V6(source), IpAddr::V6(to)) => ipv6(macs, source, to, UDP, 64, &payload),
                _ => unreachable!("both of one family"),
            };
            self.wires[from].send(&packet)?;
            due[to] += 1;
            let octets = packet.len();
            let (source_prefix, prefix) = match out {
                true => (near_prefix, far_prefix),
                false => (far_prefix, near_prefix),
            };
            let accounts: &[&str] = match near {
                0 | 1 | 4 => &["garden"],
                2 | 3 => &["garden", "garden/pond"],
                _ => &[],
            };
            self.note("from", &source_prefix, octets);
            self.note("to", &prefix, octets);
            self.note("in", HOSTS[from], octets);
            self.note("out", HOSTS[to], octets);
            for account in accounts {
                self.note(if out { "from account" } else { "to account" }, account, octets);
            }
            // What is still under way must fit into the queues.
            if number % 40 == 39 {
                self.arrive(&mut due)?;
            }
        }
        self.arrive(&mut due)?;
        for number in 0..10u8 {
            let macs = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
            let source = Ipv4Addr::new(30, 2, 7, 9);
            let dead = ipv4(macs, source, [20, 200, 0, number].into(), UDP, 64, &udp(9, 9, 30));
            self.wires[0].send(&dead)?;
            self.note("dropped", "blackhole", dead.len());
        }
        Ok(())
    }

    fn arrive(&self, due: &mut [usize; 3]) -> Result<()> {
        for (host, due) in due.iter_mut().enumerate() {
            let router = [2, 0, 0, 0, host as u8 + 1, 1];
            let ours = |frame: &[u8]| {
                let at = match frame.get(12..14) {
                    Some([0x08, 0]) => 34,
                    _ => 54,
                };
                frame.get(6..12) == Some(&router) && frame.get(at..at + 4) == Some(&[4, 0, 0, 53])
            };
            let arrived = self.wires[host].collect(*due, LIMIT, ours)?.len();
            ensure!(
                arrived == *due,
                "{arrived} of {due} arrived at {}\n{}",
                HOSTS[host],
                self.lab.picture()
            );
            *due = 0;
        }
        Ok(())
    }

    fn of(&self, what: &str) -> BTreeMap<String, (u64, u64)> {
        let all = self.sent.iter().filter(|((kind, _), _)| *kind == what);
        all.map(|((_, name), count)| (name.clone(), *count)).collect()
    }
}

/// The rows that counted something, by name.
fn rows(table: &Value, name: &str, figures: [&str; 2]) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut found = BTreeMap::new();
    for row in table.as_array().context("no rows")? {
        let name = row[name].as_str().unwrap_or_default();
        let [packets, octets] = figures.map(|key| row[key].as_u64());
        let figures = (packets.context("no packets")?, octets.context("no octets")?);
        if figures.1 > 0 {
            found.insert(name.to_string(), figures);
        }
    }
    Ok(found)
}

/// Fails with what differs.
fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    shown: &BTreeMap<String, T>,
    sent: &BTreeMap<String, T>,
) -> Result<()> {
    let names = shown.keys().chain(sent.keys());
    let different = names.filter(|name| shown.get(*name) != sent.get(*name));
    let lines = different.map(|name| format!("{name}: {:?}, sent {:?}\n", shown.get(name), sent.get(name)));
    let lines: String = lines.collect();
    ensure!(lines.is_empty(), "{what}\n{lines}");
    Ok(())
}

/// The value of a series at `/metrics`.
fn metric(text: &str, series: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.with_context(|| format!("no {series} in\n{text}"))?;
    value.trim().parse().context("no number")
}

/// Octets in and out that the history has of something.
fn remembered(lab: &Lab, of: &str, name: &str) -> Result<(u64, u64)> {
    let mut curl = lab.command("router", "curl");
    curl.args(["--silent", "--get", "--data-urlencode"])
        .arg(format!("name={name}"));
    curl.arg(format!("http://127.0.0.1:9177/v1/history?of={of}"));
    let samples: Value = serde_json::from_str(&run(&mut curl)?)?;
    let sum = |key: &str| -> u64 {
        let all = samples.as_array().into_iter().flatten();
        all.filter_map(|row| row[key].as_u64()).sum()
    };
    Ok((sum("in_bytes"), sum("out_bytes")))
}

/// Octets of a report's rows, in and out, by name.
fn reported(lab: &Lab, by: &str) -> Result<BTreeMap<String, (u64, u64)>> {
    let history = lab.dir().join("history");
    let line = format!("report p95 --by {by} --top 1000 --history {}", history.display());
    let line = match by {
        "account" => line + " --traffic all",
        _ => line,
    };
    rows(&lab.json(&line)?, "name", ["bytes_in", "bytes_out"])
}

#[test]
fn counters_metrics_history_and_reports_are_what_was_sent() -> Result<()> {
    let lab = Lab::new()?;
    let mut ways = [Way::Covered; NETWORKS];
    let mut lines = String::from(
        "route add 20.0.0.0/8 via 10.2.0.2\nroute add 2a20::/16 via fd00:2::2\nroute add blackhole 20.200.0.0/16\n",
    );
    for (number, way) in ways.iter_mut().enumerate() {
        let host = 1 + number % 4 / 2;
        *way = Way::Own(host);
        for (first, host) in [(20, host), (30, 0)] {
            let prefix = network(first, number).0;
            lines += &format!("route add {prefix} via {}\n", Sender::gateway(host, number));
        }
    }
    lab.batch("router", &lines)?;
    lab.resolve_carriers()?;
    for address in ["10.1.0.2", "fd00:1::2"] {
        lab.resolve("router", address)?;
    }
    let history = lab.dir().join("history");
    let more = format!(
        "{CONFIG}\n[history]\ndirectory = \"{}\"\ninterval = \"10s\"\n{}",
        history.display(),
        "[[interface]]\nname = \"b\"\nrole = \"transit\"\nsource-check = \"off\"\n\
         [[interface]]\nname = \"c\"\nrole = \"transit\"\nsource-check = \"off\"\n"
    );
    let config = lab.config(&["a"], &more)?;
    let mut controller = Some(Controller::start(&lab, &config)?);
    let mut sender = Sender {
        lab: &lab,
        wires: HOSTS.iter().map(|host| lab.wire(host)).collect::<Result<_>>()?,
        ways,
        random: Random::new(6),
        sent: Sent::new(),
    };
    let begun = Instant::now();
    for round in 0..ROUNDS {
        match round {
            KILLED => {
                sender.round()?;
                sender.reuse()?;
                controller.take().context("it runs")?.kill()?;
            }
            STARTED => controller = Some(Controller::start(&lab, &config)?),
            _ => {}
        }
        if round > 0 && controller.is_some() {
            sender.churn(true)?;
        }
        sender.round()?;
        std::thread::sleep((ROUND * round as u32).saturating_sub(begun.elapsed()));
    }

    let keys = ["packets", "bytes"];
    // A prefix that is gone took its row with it; the history has it still.
    let standing = |mut all: BTreeMap<String, (u64, u64)>, shown: &BTreeMap<String, (u64, u64)>| {
        all.retain(|name, _| shown.contains_key(name));
        all
    };
    let total: u64 = sender.of("in").values().map(|(packets, _)| packets).sum();
    for (by, what) in [("prefix", "to"), ("source-prefix", "from")] {
        let table = lab.json(&format!("counters --by {by}"))?;
        let shown = rows(&table, "prefix", keys)?;
        let stayed = shown.keys().filter(|name| name.starts_with("30.")).count();
        ensure!(stayed == NETWORKS / 2, "{by}: {table}");
        let near: BTreeMap<_, _> = shown
            .into_iter()
            .filter(|(name, _)| name.starts_with("30.") || name.starts_with("2a30"))
            .collect();
        same(
            &format!("counters --by {by}"),
            &near,
            &standing(sender.of(what), &near),
        )?;
    }
    let interfaces = lab.json("interfaces")?;
    for (what, keys) in [
        ("in", ["forwarded_packets", "forwarded_bytes"]),
        ("out", ["sent_packets", "sent_bytes"]),
    ] {
        same(what, &rows(&interfaces, "ifname", keys)?, &sender.of(what))?;
    }
    let accounts = lab.json("counters --by account")?;
    for (what, keys) in [
        ("to account", ["in_packets", "in_bytes"]),
        ("from account", ["out_packets", "out_bytes"]),
    ] {
        same(what, &rows(&accounts, "account", keys)?, &sender.of(what))?;
    }
    let mut curl = lab.command("router", "curl");
    let metrics = run(curl.args(["--silent", "http://127.0.0.1:9177/metrics"]))?;
    for (host, (packets, octets)) in sender.of("in") {
        for (name, value) in [("packets", packets), ("bytes", octets)] {
            let series = format!("forwarder_forwarded_{name}_total{{ifname=\"{host}\"}}");
            ensure!(metric(&metrics, &series)? == value, "{series} is not {value}");
        }
    }
    let (dropped, _) = sender.of("dropped")["blackhole"];
    let series = "forwarder_dropped_packets_total{ifname=\"a\",reason=\"blackhole\"}";
    ensure!(metric(&metrics, series)? == dropped, "{series} is not {dropped}");

    // The history has it when the interval is over in which the last was sent.
    let both = |from: &str, to: &str| {
        let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (name, (_, octets)) in sender.of(from) {
            all.entry(name).or_default().0 = octets;
        }
        for (name, (_, octets)) in sender.of(to) {
            all.entry(name).or_default().1 = octets;
        }
        all
    };
    let by_prefix = both("from", "to");
    for (of, wanted) in [("prefix", &by_prefix), ("forwarded", &both("in", "out"))] {
        patient(&lab, "the history to have everything", || {
            let mut found = BTreeMap::new();
            for name in wanted.keys() {
                found.insert(name.clone(), remembered(&lab, of, name)?);
            }
            let more = |name: &String| found[name].0 > wanted[name].0 || found[name].1 > wanted[name].1;
            let more: Vec<_> = wanted.keys().filter(|name| more(name)).collect();
            ensure!(more.is_empty(), "more than was sent: {more:?}: {found:#?}");
            Ok((found == *wanted).then_some(()))
        })?;
    }
    // A report is of samples, and the shortest is half of five minutes.
    std::thread::sleep(Duration::from_secs(150).saturating_sub(begun.elapsed()));
    patient(&lab, "enough for a sample", || {
        let line = format!("report p95 --json --history {}", history.display());
        Ok(lab.forwarder(&line)?.status.success().then_some(()))
    })?;
    same("report p95 --by prefix", &reported(&lab, "prefix")?, &by_prefix)?;
    same(
        "report p95 --by account",
        &reported(&lab, "account")?,
        &both("to account", "from account"),
    )?;
    ensure!(total == (PACKETS * (ROUNDS + 1)) as u64, "{total} were sent");
    drop(controller);
    Ok(())
}
