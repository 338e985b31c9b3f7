//! `forwarder status`: health in one screen.

use anyhow::Result;

use super::{
    bogons,
    output::{self, Paint, grouped, octets, span},
    reader::{Reader, link_stats},
};
use crate::{
    daemon::state::{BondState, HistoryState},
    shadow::Shadow,
    source::{bgp, feed::SessionView},
    stats::{
        self, StatusRow,
        status::{Now, SamplesRow, SourceRow},
    },
};

/// Prints the status; "no" where there is a problem is left to the reader: the command itself worked.
pub fn status(reader: &Reader, json: bool) -> Result<bool> {
    let figures = reader.fetch("/v1/status", |tables| {
        let interfaces = stats::interfaces(tables, &Default::default(), &link_stats());
        vec![stats::status(tables, None, &interfaces, Now::read())]
    })?;
    if json {
        figures.print_json()?;
        return Ok(true);
    }
    for row in figures.rows()? {
        output::print(&screen(&row, Paint::stdout()))?;
    }
    Ok(true)
}

fn screen(row: &StatusRow, paint: Paint) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if row.dry_run {
        let what = "every packet goes to the kernel; `forwarder drops` tells what would have become of it";
        lines.push(("DRY RUN", paint.bad(what)));
    }
    let controller = match (row.pid, row.uptime) {
        (Some(pid), Some(uptime)) => format!("{}, pid {pid}, up {}", paint.good("running"), span(uptime)),
        _ => paint.bad("not running"),
    };
    lines.push(("controller", format!("{controller}; version {}", row.version)));
    lines.push(("heartbeat", heartbeat(row, paint)));
    if !row.config.file.is_empty() {
        let trial = row.config.trial_seconds;
        let trial = trial.map(|left| format!("; another is on trial for {left} s more"));
        lines.push((
            "config",
            format!("{}{}", row.config.file, trial.unwrap_or_default()),
        ));
    }
    for (index, source) in row.sources.iter().enumerate() {
        let name = if index == 0 { "routes" } else { "" };
        lines.push((name, routes(source, paint)));
        if let Some(session) = session(&source.session) {
            lines.push(("", format!("  {session}")));
        }
        if let Some(peer) = &source.session.connected {
            lines.push(("", format!("  {peer} is connected")));
        }
        if let Some(notification) = &source.session.notification {
            lines.push(("", format!("  last NOTIFICATION {notification}")));
        }
        if let Some(error) = &source.last_error {
            lines.push(("", format!("  last error of {}: {error}", source.name)));
        }
    }
    if row.strangers + row.crowded > 0 {
        let text = format!(
            "  connections closed: {} from addresses that are no neighbour's, {} because of too many others",
            grouped(row.strangers),
            grouped(row.crowded)
        );
        lines.push(("", text));
    }
    lines.push((
        "table",
        format!(
            "{} IPv4 + {} IPv6 prefixes; {} of maps",
            grouped(row.prefixes_ipv4),
            grouped(row.prefixes_ipv6),
            octets(row.memory_bytes)
        ),
    ));
    for (name, used, size) in [
        ("slots", Some(row.slots_used), row.slots_size),
        ("IPv4 blocks", row.ipv4_blocks_used, row.ipv4_blocks_size),
        ("IPv6 blocks", row.ipv6_blocks_used, row.ipv6_blocks_size),
        ("next-hop groups", Some(row.groups_used), row.groups_size),
        ("next hops", Some(row.next_hops_used), row.next_hops_size),
    ] {
        if let Some(used) = used {
            let share = used as f64 * 100.0 / size.max(1) as f64;
            lines.push((
                "",
                format!("{name}: {} of {} ({share:.1} %)", grouped(used), grouped(size)),
            ));
        }
    }
    lines.push((
        "packets",
        format!(
            "{} received on {} interfaces: {} forwarded, {} passed to the kernel, {} dropped",
            grouped(row.received_packets),
            row.interfaces,
            grouped(row.forwarded_packets),
            grouped(row.passed_packets),
            grouped(row.dropped_packets)
        ),
    ));
    for (index, line) in bogons::lines(&row.bogons, paint).into_iter().enumerate() {
        lines.push((if index == 0 { "bogons" } else { "" }, line));
    }
    for (index, bond) in row.bonds.iter().enumerate() {
        lines.push((if index == 0 { "bonds" } else { "" }, bond_line(bond, paint)));
    }
    for (index, gateway) in row.gateways.iter().enumerate() {
        let held = if gateway.held { "held" } else { "not held" };
        let line = format!("{} {} on {}: {held}", gateway.ifname, gateway.mac, gateway.on);
        lines.push((if index == 0 { "gateways" } else { "" }, line));
    }
    if let Some(history) = &row.history {
        lines.push(("history", history_line(history)));
    }
    if let Some(samples) = &row.samples {
        for (index, line) in samples_lines(samples, paint).into_iter().enumerate() {
            lines.push((if index == 0 { "samples" } else { "" }, line));
        }
    }
    let sums = if row.ingress_residue == 0 && row.egress_residue == 0 {
        paint.good("every packet accounted once")
    } else {
        format!(
            "open: {} packets in, {} out (those under way included)",
            grouped(row.ingress_residue),
            grouped(row.egress_residue)
        )
    };
    lines.push((
        "sums",
        format!("{sums}; {} lost in egress drivers", grouped(row.lost_packets)),
    ));
    if let Some(shadow) = &row.shadow {
        lines.push(("shadow", shadow_line(shadow, paint)));
    }
    if row.problems.is_empty() {
        lines.push(("problems", paint.good("none")));
    }
    for (index, problem) in row.problems.iter().enumerate() {
        lines.push((if index == 0 { "problems" } else { "" }, paint.bad(problem)));
    }
    let mut text = String::new();
    for (name, value) in lines {
        text += &format!("{} {value}\n", paint.bold(&format!("{name:10}")));
    }
    text
}

/// Tables and kernel compared, in a line.
fn shadow_line(shadow: &Shadow, paint: Paint) -> String {
    let differing = match shadow.differing {
        0 => paint.good("no prefix differs"),
        1 => paint.bad("1 prefix differs"),
        many => paint.bad(&format!("{} prefixes differ", grouped(many))),
    };
    let mut line = format!(
        "{} addresses compared with the kernel's routes, {differing}",
        grouped(shadow.checked)
    );
    if shadow.left_out > 0 {
        line += &format!("; {} left out, which feeds decide", grouped(shadow.left_out));
    }
    line
}

/// A source in a line.
fn routes(source: &SourceRow, paint: Paint) -> String {
    let name = if source.kind == source.name {
        source.name.clone()
    } else {
        format!("{} {}", source.kind, source.name)
    };
    let state = match source.state.as_str() {
        "in step" | "live" => paint.good(&source.state),
        "down" | "stale" | "ended" => paint.bad(&source.state),
        _ => source.state.clone(),
    };
    let mut words = vec![format!("{name}: {state}")];
    // Of a daemon that has not come there is nothing to tell but that.
    let came = source.kind == "kernel" || source.sessions > 0 || source.messages > 0;
    if !came {
        words.push("no session since the start".to_string());
        if source.errors > 0 {
            words.push(counted(source.errors, "error"));
        }
        words.extend(standing(source));
        return words.join(", ");
    }
    words.push(format!(
        "{} IPv4 + {} IPv6",
        grouped(source.routes_ipv4),
        grouped(source.routes_ipv6)
    ));
    let stale = source.stale_ipv4 + source.stale_ipv6;
    if stale > 0 {
        words.push(paint.bad(&format!("{} of them stale", grouped(stale))));
    }
    let rules = source.flowspec_ipv4 + source.flowspec_ipv6;
    if rules > 0 {
        words.push(counted(rules, "FlowSpec rule"));
    }
    words.push(format!(
        "{} updates ({}/s)",
        grouped(source.updates),
        grouped(source.updates_per_second)
    ));
    if source.kind == "kernel" {
        words.push(counted(source.resyncs, "full sync"));
    } else {
        let ended = [
            (source.end_of_rib_ipv4, "IPv4"),
            (source.end_of_rib_ipv6, "IPv6"),
            (source.end_of_rib_flowspec_ipv4, "FlowSpec IPv4"),
            (source.end_of_rib_flowspec_ipv6, "FlowSpec IPv6"),
        ];
        let ended: Vec<&str> = ended
            .iter()
            .filter(|(seen, _)| *seen)
            .map(|(_, name)| *name)
            .collect();
        words.push(if ended.is_empty() {
            "no End-of-RIB yet".to_string()
        } else {
            format!("End-of-RIB {}", ended.join(", "))
        });
        words.push(format!(
            "{}, {}",
            counted(source.sessions, "session"),
            counted(source.errors, "error")
        ));
    }
    if source.answered + source.answers_dropped > 0 {
        words.push(counted(source.answered, "offload answer"));
    }
    if source.answers_dropped > 0 {
        words.push(format!("{} not read in time", grouped(source.answers_dropped)));
    }
    words.push(source.last_change_age.map_or("no change yet".to_string(), |age| {
        format!("last change {} ago", span(age))
    }));
    words.extend(standing(source));
    words.join(", ")
}

/// What a source's routes count for.
fn standing(source: &SourceRow) -> impl Iterator<Item = String> {
    let unlisted = (!source.forwards).then_some("attributes only");
    let awaited = source
        .awaited
        .then_some("awaited: what was found laid is kept for it");
    [unlisted, awaited].into_iter().flatten().map(String::from)
}

/// What both sides of a session agreed on, while there is one.
fn session(session: &SessionView) -> Option<String> {
    let mut words = vec![
        format!("AS {}", session.peer_as?),
        format!("identifier {}", session.router_id?),
    ];
    words.push(match session.hold_time {
        Some(time) => format!("hold time {time} s"),
        None => "no hold time".to_string(),
    });
    if let Some(time) = session.restart_time {
        words.push(format!("restart time {time} s"));
    }
    let tables = session.tables.iter().map(|table| {
        let mut text = format!(
            "{} {} of {}",
            bgp::table::name(table.table),
            grouped(table.routes as u64),
            grouped(table.limit as u64)
        );
        if table.add_path {
            text += " with ADD-PATH";
        }
        if table.refused > 0 {
            text += &format!(", {} refused", grouped(table.refused));
        }
        text
    });
    words.extend(tables);
    words.extend(session.capabilities.iter().cloned());
    Some(words.join(", "))
}

/// A number of things.
fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}

fn heartbeat(row: &StatusRow, paint: Paint) -> String {
    let limit = if row.max_age == 0.0 {
        "never stale".to_string()
    } else {
        format!("stale after {:.0} s", row.max_age)
    };
    let age = row
        .heartbeat_age
        .map_or("none yet".to_string(), |age| format!("{age:.1} s ago"));
    if row.stale {
        format!("{}: packets pass to the kernel ({limit})", paint.bad(&age))
    } else {
        format!("{age} ({limit})")
    }
}

/// Flow samples, and what became of them.
fn samples_lines(samples: &SamplesRow, paint: Paint) -> Vec<String> {
    let lost = match samples.lost {
        0 => "none lost".to_string(),
        lost => paint.bad(&format!("{} lost", grouped(lost))),
    };
    let mut lines = vec![format!(
        "1 packet in {}: {} taken, {lost}",
        grouped(samples.rate.into()),
        grouped(samples.taken)
    )];
    for to in &samples.collectors {
        let mut line = format!(
            "{} to {}: {}",
            to.protocol.name(),
            to.address,
            counted(to.datagrams, "datagram")
        );
        if to.errors > 0 {
            line += &format!(", {}", paint.bad(&format!("{} not sent", grouped(to.errors))));
        }
        if let Some(why) = &to.last_error {
            line += &format!(" ({why})");
        }
        lines.push(line);
    }
    lines
}

/// A bond: by which members it sends.
fn bond_line(bond: &BondState, paint: Paint) -> String {
    let BondState {
        ifname,
        mode,
        policy,
        sending,
        waiting,
    } = bond;
    let (some, all) = (sending.len(), sending.len() + waiting.len());
    let line = format!(
        "{ifname}: {mode} {policy}, {some} of {all} members send: {}",
        sending.join(", ")
    );
    // All but one wait where one alone sends.
    if waiting.is_empty() || mode == "active-backup" && some == 1 {
        return line;
    }
    format!("{line}; {}", paint.bad(&format!("not {}", waiting.join(", "))))
}

/// What the history has, and how much room that takes.
fn history_line(history: &HistoryState) -> String {
    if !history.enabled {
        return "off".into();
    }
    let place = &history.directory;
    if let Some(why) = history.why.as_ref().filter(|_| !history.is_problem) {
        return format!("none: {why}");
    }
    let (Some(first), Some(last)) = (history.first, history.last) else {
        return format!(
            "{place}: nothing yet; the first interval ends within {}",
            span(history.interval_seconds)
        );
    };
    let length = u64::try_from(last - first).unwrap_or(0);
    let room = history.disk_free_bytes.map_or(String::new(), |free| {
        format!(", {} free on the disk", octets(free))
    });
    let mut line = format!(
        "{place}: {} over {}, {}{room}",
        counted(history.intervals, "interval"),
        span(length),
        octets(history.bytes),
    );
    if history.unattributed_packets > 0 {
        line += &format!(
            "; {} packets ({}) are of no prefix that is known",
            grouped(history.unattributed_packets),
            octets(history.unattributed_bytes)
        );
    }
    if let Some(replaced) = history.replaced {
        line += &format!(
            "; its files were deleted or replaced at {}, and it goes on in what is there since",
            forwarder_history::report::calendar::utc(replaced)
        );
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{sample, status::Now};

    #[test]
    fn the_screen_says_what_matters() {
        let tables = sample::tables();
        let interfaces = stats::interfaces(&tables, &sample::roles(), &|_| Some(sample::link(1042)));
        let now = Now {
            monotonic_ns: 200_000_000_000,
            unix_seconds: 0,
        };
        let text = screen(&stats::status(&tables, None, &interfaces, now), Paint::off());
        for words in [
            "controller not running",
            "heartbeat  101.0 s ago: packets pass to the kernel (stale after 30 s)",
            "table      1 IPv4 + 1 IPv6 prefixes",
            "42 received on 2 interfaces: 30 forwarded, 7 passed to the kernel, 5 dropped",
            "problems   no heartbeat for 101 s",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_history_says_what_is_missing_and_that_its_files_went() {
        let mut history = HistoryState {
            enabled: true,
            directory: "/var/lib/forwarder".into(),
            interval_seconds: 10,
            ..HistoryState::default()
        };
        assert_eq!(
            history_line(&history),
            "/var/lib/forwarder: nothing yet; the first interval ends within 10 s"
        );
        (history.first, history.last) = (Some(1_700_000_000), Some(1_700_000_600));
        let line = history_line(&history);
        assert!(!line.contains("no prefix") && !line.contains("deleted"), "{line}");
        history.unattributed_packets = 1_234;
        history.replaced = Some(1_700_000_300);
        let line = history_line(&history);
        for words in [
            "; 1,234 packets (0 B) are of no prefix that is known",
            "; its files were deleted or replaced at 2023-11-14 22:18 UTC, and it goes on in what is there since",
        ] {
            assert!(line.contains(words), "{words:?} is not in {line}");
        }
    }

    #[test]
    fn a_session_shows_what_was_agreed_on_and_how_the_last_one_ended() {
        use crate::source::feed::{FeedTable, TableView};
        let bgp = SourceRow {
            kind: "bgp".into(),
            name: "twin".into(),
            state: "live".into(),
            session: SessionView {
                peer_as: Some(64_500),
                router_id: Some([192, 0, 2, 2].into()),
                hold_time: Some(90),
                restart_time: Some(120),
                capabilities: vec!["four-octet-as".into(), "route-refresh".into()],
                tables: vec![TableView {
                    table: FeedTable::Ipv4,
                    routes: 1_000,
                    limit: 1_000,
                    refused: 7,
                    add_path: true,
                }],
                connected: None,
                notification: Some("received: cease, administrative reset".into()),
            },
            ..SourceRow::default()
        };
        let down = SourceRow {
            kind: "bgp".into(),
            name: "other".into(),
            state: "connecting".into(),
            errors: 1,
            awaited: true,
            session: SessionView {
                peer_as: Some(64_501),
                ..SessionView::default()
            },
            ..SourceRow::default()
        };
        let row = StatusRow {
            sources: vec![bgp, down],
            strangers: 3,
            ..StatusRow::default()
        };
        let text = screen(&row, Paint::off());
        for words in [
            "AS 64500, identifier 192.0.2.2, hold time 90 s, restart time 120 s, IPv4 1,000 of 1,000 with ADD-PATH, \
             7 refused, four-octet-as, route-refresh\n",
            "last NOTIFICATION received: cease, administrative reset\n",
            "connections closed: 3 from addresses that are no neighbour's, 0 because of too many others\n",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        assert!(
            text.contains("bgp other: connecting, no session since the start, 1 error, attributes only, awaited: what was found laid is kept for it\n"),
            "{text}"
        );
        assert!(
            !text.contains("AS 64501"),
            "without a session nothing is agreed on"
        );
        let json = serde_json::to_value(&row.sources[0]).unwrap();
        assert_eq!(
            (&json["peer_as"], &json["hold_time"]),
            (&64_500.into(), &90.into())
        );
        assert_eq!(serde_json::from_value::<SourceRow>(json).unwrap(), row.sources[0]);
    }
}
