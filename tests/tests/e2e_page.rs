//! The web page in a real browser: what it shows is what the commands say.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use forwarder_history::{Direction, History, Interval, Retention, Sample, Series, State};
use forwarder_tests::{
    known::{ENDING, PACKETS, lab, send},
    lab::{Lab, run},
};
use serde_json::Value;

/// The document as a browser on the router has it after some readings.
fn browse(lab: &Lab, view: &str) -> Result<String> {
    let profile = lab.dir().join("chromium");
    let mut browser = lab.command("router", "timeout");
    browser.args([
        "90",
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
    ]);
    browser.args([
        "--disable-background-networking",
        "--virtual-time-budget=9000",
        "--dump-dom",
    ]);
    browser.arg(format!("--user-data-dir={}", profile.display()));
    browser.arg(format!("http://127.0.0.1:9177/#{view}"));
    // The page reports by the browser's calendar.
    browser
        .env("HOME", lab.dir())
        .env("TZ", "UTC")
        .stderr(Stdio::null());
    run(&mut browser).context("is Debian's chromium installed? `cargo xtask setup` does it")
}

/// What stands between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<(&'a str, &'a str)> {
    let start = text.find(from)? + from.len();
    let end = start + text[start..].find(to)?;
    Some((&text[start..end], &text[end + to.len()..]))
}

/// The tables of the document: by the id of its section, rows of words and figures.
fn tables(document: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut found = BTreeMap::new();
    for section in document.split("<section ").skip(1) {
        let section = section.split("</section>").next().unwrap_or_default();
        let Some((name, _)) = between(section, "id=\"", "\"") else {
            continue;
        };
        let mut rows = Vec::new();
        let Some((body, _)) = between(section, "<tbody>", "</tbody>") else {
            continue;
        };
        for row in body.split("<tr>").skip(1) {
            let cells = row.split("<td").skip(1).map(|cell| {
                // The figure itself, where it is one; else the text without markup.
                if let Some((value, _)) = between(cell, "<data value=\"", "\"") {
                    return value.to_string();
                }
                let mut text = String::new();
                let mut inside = true;
                for letter in cell.chars() {
                    match letter {
                        '<' => inside = true,
                        '>' => inside = false,
                        letter if !inside => text.push(letter),
                        _ => {}
                    }
                }
                text
            });
            rows.push(cells.collect());
        }
        found.insert(name.to_string(), rows);
    }
    found
}

fn field(row: &Value, name: &str) -> String {
    match &row[name] {
        Value::String(word) => word.clone(),
        Value::Null => "-".into(),
        value => value.to_string(),
    }
}

#[test]
fn the_figures_on_the_page_are_those_of_the_commands() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    send(&lab)?;
    let document = browse(&lab, "links")?;
    let tables = tables(&document);
    let shown = tables
        .get("counts")
        .with_context(|| format!("no table in {document}"))?;
    let interfaces = lab.json("interfaces")?;
    let rows = interfaces.as_array().context("rows")?;
    ensure!(rows.len() == 2 && shown.len() == 2, "{shown:?}");
    for (shown, row) in shown.iter().zip(rows) {
        let forwarded = ["ifname", "mode"].map(|name| field(row, name));
        ensure!(shown[..2] == forwarded, "{shown:?} {row}");
        // What is counted while the browser starts is the router's own: neighbours that are asked for.
        let figures = [(3, "forwarded_packets"), (6, "sent_packets")];
        for (column, name) in figures {
            ensure!(shown[column] == field(row, name), "{name}: {shown:?} {row}");
        }
    }
    let drops = lab.json("drops")?;
    let document = browse(&lab, "reasons")?;
    let shown = &self::tables(&document)["reasons"];
    for (reason, packets) in [("blackhole", PACKETS), ("ttl-expired", ENDING)] {
        let rows = drops.as_array().context("rows")?;
        let row = rows
            .iter()
            .find(|row| row["reason"] == reason)
            .context("no such reason")?;
        ensure!(row["packets"] == packets, "{row}");
        let line = shown
            .iter()
            .find(|line| line[2] == reason)
            .context("not on the page")?;
        ensure!(line[0] == "a" && line[5] == packets.to_string(), "{line:?}");
        ensure!(line[6] == field(row, "help"), "{line:?}");
    }
    drop(controller);
    Ok(())
}

/// Samples of the last three hours but for the last five minutes: two accounts with parts, and a carrier.
fn past(lab: &Lab) -> Result<()> {
    let account = |from: &str, to: &str| Series::Account {
        from: from.into(),
        to: to.into(),
        outside: true,
    };
    let carrier = |direction| Series::Interface {
        ifname: "carrier0".into(),
        direction,
    };
    let mut history = History::open(&lab.dir().join("history"), Retention::default())?;
    for (series, fact, value) in [
        (carrier(Direction::In), "role", "transit"),
        (carrier(Direction::In), "commit", "50000000"),
        (account("members/radio", ""), "commit", "20000000"),
    ] {
        history.describe(&series, fact, value)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    let end = now / 300 * 300 - 300;
    for n in 0..36u64 {
        let counted = [
            (account("", "members/radio"), 100_000_000 + n * 7_654_321),
            (account("members/radio", ""), 90_000_000 + n * 1_234_567),
            (account("members/library", ""), 45_678_900),
            (carrier(Direction::In), 300_000_000 + n * 9_999_999),
            (carrier(Direction::Out), 200_000_000),
        ];
        let mut samples = Vec::new();
        for (series, bytes) in counted {
            samples.push(Sample {
                series: history.series_id(&series)?,
                packets: bytes / 1_000,
                bytes,
            });
        }
        let interval = Interval {
            start: end - 36 * 300 + n as i64 * 300,
            milliseconds: 300_000,
            samples,
        };
        history.commit(&interval, State::Same)?;
    }
    Ok(())
}

#[test]
fn bills_on_the_page_are_those_of_the_report() -> Result<()> {
    let lab = lab()?;
    past(&lab)?;
    let directory = lab.dir().join("history");
    let config = format!("[history]\ndirectory = \"{}\"\n", directory.display());
    let controller = lab.start(&["a", "b"], &config)?;
    let document = browse(&lab, "bills")?;
    let tables = tables(&document);
    for (by, names) in [
        ("account", &["members", "members/radio", "members/library"][..]),
        ("carrier", &["carrier0"][..]),
    ] {
        let report = lab.json(&format!("report p95 --by {by} --history {}", directory.display()))?;
        let shown = tables
            .get(&format!("bills-{by}"))
            .with_context(|| format!("no bills by {by} in {document}"))?;
        let shown_names: Vec<&str> = shown.iter().map(|row| row[0].as_str()).collect();
        ensure!(shown_names == names, "the largest bill first: {shown:?}");
        for row in report.as_array().context("rows")? {
            let name = field(row, "name");
            let line = shown.iter().find(|line| line[0] == name);
            let line = line.with_context(|| format!("{name} is not on the page: {shown:?}"))?;
            let wanted = ["p95_in", "p95_out", "p95", "commit"].map(|key| field(row, key));
            ensure!(line[1..5] == wanted, "{line:?} {row}");
            let octets = ["peak_in", "peak_out", "bytes_in", "bytes_out"].map(|key| field(row, key));
            ensure!(line[6..10] == octets, "{line:?} {row}");
            ensure!(row["p95"].as_u64() > Some(0), "{row}");
        }
    }
    // The largest of the accounts is drawn: two curves, their percentiles, and what is agreed where something is.
    let (drawn, _) = between(&document, "<section id=\"bill\"", "</section>").context("no curve")?;
    for words in ["series s0", "series s1", "p95 in", "p95 out"] {
        ensure!(drawn.contains(words), "{words} is not in {drawn}");
    }
    drop(controller);
    Ok(())
}
