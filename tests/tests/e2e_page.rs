//! The web page in a real browser: what it shows is what the commands say.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context, Result, ensure};
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
    browser.env("HOME", lab.dir()).stderr(Stdio::null());
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
