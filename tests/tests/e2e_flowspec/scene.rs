//! The place: the kernel forwards everything to host b, and BGP tells nothing but attributes and rules. Packets of an
//! amplification attack on one address of each family, and others that differ from them in one thing.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    lab::Lab,
    operator::{figure, is, patient, settle},
    volley::{Kind, Volley},
};
use serde_json::Value;

/// BIRD beside the controller, of its AS.
pub const BESIDE: &str = "[[routes.bgp.neighbour]]\nname = \"bird\"\naddress = \"127.0.0.1\"\n";
/// GoBGP or ExaBGP of another AS on host b.
pub const NEXT_DOOR: &str =
    "[[routes.bgp.neighbour]]\nname = \"next door\"\naddress = \"10.2.0.2\"\nas = 64501\nadd-path = false\n";

/// What the rules against the attack are called, IPv4 and IPv6.
pub const NAMES: [&str; 2] = [
    "dst 198.18.7.9/32 proto udp src-port 123",
    "dst 2001:db8:7::9/128 proto udp src-port 123",
];

/// Packets of each kind that are sent to see whether a rule is in force.
const EACH: usize = 100;

fn address(text: &str) -> Result<IpAddr> {
    text.parse().context("an address")
}

/// The lab, its packets, and the controller.
pub struct Scene<'a> {
    /// The lab.
    pub lab: &'a Lab,
    controller: Option<Controller<'a>>,
    /// Packets from a to b.
    pub volley: Volley,
    /// The attack, IPv4 and IPv6.
    pub attacks: [Kind; 2],
    /// What goes on.
    clean: Vec<Kind>,
}

impl<'a> Scene<'a> {
    /// Sets it up for this neighbour.
    pub fn new(lab: &'a Lab, neighbour: &str) -> Result<Scene<'a>> {
        for gateway in ["10.2.0.2", "fd00:2::2"] {
            lab.resolve("router", gateway)?;
        }
        lab.ip("router", "route add 198.18.0.0/15 via 10.2.0.2")?;
        lab.ip("router", "route add 2001:db8::/32 via fd00:2::2")?;
        let config = "[routes]\nsources = [\"kernel\"]\n\
            [routes.bgp]\nlisten = [\"127.0.0.2:1179\", \"10.2.0.1:1179\"]\nlocal-as = 64500\n";
        let controller = lab.start(&["a", "b"], &format!("{config}{neighbour}"))?;
        settle(lab, "198.18.7.9", &["10.2.0.2"])?;
        settle(lab, "2001:db8:7::9", &["fd00:2::2"])?;
        let victims = [address("198.18.7.9")?, address("2001:db8:7::9")?];
        let mut clean = Vec::new();
        for (victim, neighbour) in victims.into_iter().zip(["198.18.7.10", "2001:db8:7::a"]) {
            clean.push(Kind::udp(victim, (124, 4_000), 440));
            clean.push(Kind::udp(victim, (4_000, 123), 440));
            clean.push(Kind::tcp(victim, (123, 4_000), 440));
            clean.push(Kind::udp(address(neighbour)?, (123, 4_000), 440));
        }
        Ok(Scene {
            lab,
            controller: Some(controller),
            volley: Volley::new(lab, Kind::udp(address("198.19.255.1")?, (9, 9), 8))?,
            attacks: victims.map(|victim| Kind::udp(victim, (123, 4_000), 440)),
            clean,
        })
    }

    /// Kills the controller, does something, and starts another.
    pub fn restart(&mut self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        self.controller.take().context("no controller")?.kill()?;
        meanwhile()?;
        let config = self.lab.dir().join("forwarder.toml");
        self.controller = Some(Controller::start(self.lab, &config)?);
        Ok(())
    }

    /// Waits until a session has so many rules of each family.
    pub fn told(&self, session: &str, rules: [i64; 2]) -> Result<()> {
        self.session(session, &format!("{rules:?} rules"), |row| {
            row["state"] == "live" && row["flowspec_ipv4"] == rules[0] && row["flowspec_ipv6"] == rules[1]
        })
    }

    /// Waits until a session is so.
    pub fn session(&self, name: &str, what: &str, so: impl Fn(&Value) -> bool) -> Result<()> {
        patient(self.lab, &format!("{name}: {what}"), || {
            let status = self.lab.json("status")?;
            let mut rows = status[0]["sources"].as_array().into_iter().flatten();
            Ok(rows.any(|row| row["name"] == name && so(row)).then_some(()))
        })
        .with_context(|| self.controller.as_ref().map_or_else(String::new, Controller::log))
    }

    /// Waits until a session is gone, and its rules with it.
    pub fn gone(&self, session: &str) -> Result<()> {
        self.session(session, "its end", |row| is(row, "down", [0, 0]))?;
        self.listed("no rules of it", |rows| {
            rows.iter().all(|row| row["session"] != session)
        })
        .map(drop)
    }

    /// Waits until `filter show` lists what is wanted; answers all rows.
    pub fn listed(&self, what: &str, so: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let mut last = Vec::new();
        patient(self.lab, what, || {
            last = rows(self.lab)?;
            Ok(so(&last).then(|| last.clone()))
        })
        .with_context(|| format!("{what}: {last:?}"))
    }

    /// Waits until a rule with this action is in force, and answers its row.
    pub fn in_force(&self, name: &str, action: &str) -> Result<Value> {
        let rows = self.listed(&format!("{name} in force"), |rows| {
            rows.iter()
                .any(|row| row["name"] == name && row["state"] == "active" && row["action"] == action)
        })?;
        named(&rows, name)
    }

    /// Waits until a rule is not applied, and answers why.
    pub fn refused(&self, name: &str) -> Result<String> {
        let rows = self.listed(&format!("{name} not applied"), |rows| {
            rows.iter()
                .any(|row| row["name"] == name && row["state"] == "not-applied")
        })?;
        let row = named(&rows, name)?;
        ensure!(row["order"].is_null() && row["slot"].is_null(), "{row}");
        Ok(row["why"].as_str().unwrap_or_default().to_string())
    }

    /// Sends the attacks, and what differs from them in one thing. Of the attacks only those may arrive that are not cut;
    /// of the rest everything.
    pub fn only_cut(&self, cut: [bool; 2]) -> Result<()> {
        let kinds: Vec<&Kind> = self.attacks.iter().chain(&self.clean).collect();
        let arrived = self.volley.send(&kinds, EACH)?;
        let cut = cut.into_iter().chain(self.clean.iter().map(|_| false));
        let wanted: Vec<u64> = cut.map(|cut| if cut { 0 } else { EACH as u64 }).collect();
        ensure!(
            arrived == wanted,
            "{arrived:?} arrived, and not {wanted:?}: {:?}\n{}",
            rows(self.lab)?,
            self.lab.picture()
        );
        Ok(())
    }

    /// Both attacks are cut by rules of this session, and the counters are those of what was sent.
    pub fn both_cut(&self, session: &str) -> Result<()> {
        let before = [self.in_force(NAMES[0], "drop")?, self.in_force(NAMES[1], "drop")?];
        let dropped = self.dropped()?;
        self.only_cut([true, true])?;
        let sent = [0, 1].map(|family| (EACH as i64, EACH as i64 * self.attacks[family].bytes() as i64));
        for (family, before) in before.iter().enumerate() {
            let more = |rows: &[Value], key: &str| -> Result<i64> {
                Ok(figure(&named(rows, NAMES[family])?, key)? - figure(before, key)?)
            };
            // The controller looks once a second.
            let rows = self.listed("every packet counted", |rows| {
                more(rows, "packets").is_ok_and(|packets| packets >= sent[family].0)
            })?;
            let row = named(&rows, NAMES[family])?;
            for (key, wanted) in [
                ("packets", sent[family].0),
                ("bytes", sent[family].1),
                ("dropped_packets", sent[family].0),
                ("dropped_bytes", sent[family].1),
            ] {
                ensure!(more(&rows, key)? == wanted, "{key}, {wanted} were sent: {row}");
            }
            ensure!(row["session"] == session && row["origin"] == "flowspec", "{row}");
            ensure!(row["last_hit_seconds_ago"].is_u64(), "{row}");
        }
        let now = self.dropped()?;
        let both = (sent[0].0 + sent[1].0, sent[0].1 + sent[1].1);
        ensure!(
            (now.0 - dropped.0, now.1 - dropped.1) == both,
            "drops: {now:?} after {dropped:?}, and {both:?} were sent"
        );
        Ok(())
    }

    /// What `drops` has of the reason flowspec, of what came in on a: packets and octets.
    fn dropped(&self) -> Result<(i64, i64)> {
        let rows = self.lab.json("drops")?;
        let mut rows = rows.as_array().into_iter().flatten();
        let row = rows.find(|row| row["ifname"] == "a" && row["reason"] == "flowspec");
        let Some(row) = row else { return Ok((0, 0)) };
        ensure!(row["verdict"] == "drop", "{row}");
        Ok((figure(row, "packets")?, figure(row, "bytes")?))
    }

    /// Sends more of the IPv4 attack than the rule of this name lets through, which limits it to so many of its units each
    /// second, of which a packet is `each`. What arrives must be what the rate and a burst let through.
    pub fn limited(&self, name: &str, per_second: u64, burst: u64, each: u64) -> Result<()> {
        let row = self.in_force(name, "rate-limit")?;
        ensure!(row["rate"] == per_second && row["burst"] == burst, "{row}");
        let keeps = Duration::from_secs_f64(burst as f64 / per_second as f64);
        let flood = self
            .volley
            .flood(&self.attacks[0], Duration::from_secs(3), keeps)?;
        let came = (flood.arrived * each) as f64;
        let rated = |seconds: f64| per_second as f64 * seconds;
        // A packet may leave a debt on each CPU.
        let most = rated(flood.seconds) * 1.02 + (burst + each * 2) as f64;
        // What was not asked for is lost when the burst is full.
        let least = rated(flood.seconds - flood.idle) * 0.9 - (each * 2) as f64;
        let words = || {
            format!("{came} of {per_second} each second and a burst of {burst}, {least} to {most}: {flood:?}")
        };
        ensure!(came <= most, "too much came through: {}", words());
        ensure!(came >= least, "too little came through: {}", words());
        ensure!(flood.arrived * 2 < flood.sent, "it was not too much: {}", words());
        println!("{}", words());
        let lost = (flood.sent - flood.arrived) as i64;
        let more = |rows: &[Value], key: &str| -> Result<i64> {
            Ok(figure(&named(rows, name)?, key)? - figure(&row, key)?)
        };
        let rows = self.listed("every packet counted", |rows| {
            more(rows, "packets").is_ok_and(|packets| packets >= flood.sent as i64)
        })?;
        ensure!(
            more(&rows, "packets")? == flood.sent as i64 && more(&rows, "dropped_packets")? == lost,
            "{flood:?}: {row} {:?}",
            named(&rows, name)
        );
        Ok(())
    }
}

fn rows(lab: &Lab) -> Result<Vec<Value>> {
    Ok(lab.json("filter show")?.as_array().cloned().unwrap_or_default())
}

fn named(rows: &[Value], name: &str) -> Result<Value> {
    let row = rows.iter().find(|row| row["name"] == name);
    row.cloned().with_context(|| format!("no {name} in {rows:?}"))
}
