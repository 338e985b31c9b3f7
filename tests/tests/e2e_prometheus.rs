//! A real Prometheus scrapes two controllers, and its rules make one network of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{controller::binary, lab::Lab, operator::patient};
use serde_json::Value;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(file)
}

/// A controller beside others on the router, with its own pins and socket.
fn controller(lab: &Lab, name: &str, port: u16, interfaces: &[(&str, &str)]) -> Result<Process> {
    let config = lab.dir().join(format!("{name}.toml"));
    let mut text = format!("[api]\nmetrics = \"127.0.0.1:{port}\"\n[filter]\nbogons = false\n");
    for (ifname, role) in interfaces {
        text += &format!("[[interface]]\nname = \"{ifname}\"\nrole = \"{role}\"\nsource-check = \"off\"\n");
    }
    fs::write(&config, text)?;
    let log = fs::File::create(lab.dir().join(format!("{name}.log")))?;
    let pins = lab.pins().with_file_name(name);
    let child = lab
        .command("router", binary()?)
        .arg("run")
        .arg("--config")
        .arg(&config)
        .arg("--bpffs")
        .arg(&pins)
        .arg("--socket")
        .arg(lab.dir().join(format!("{name}.sock")))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(Process(child))
}

/// What Prometheus answers to a query: labels and value of each series.
fn query(lab: &Lab, port: u16, expression: &str) -> Result<Vec<(Value, f64)>> {
    let mut curl = lab.command("router", "curl");
    curl.args(["--silent", "--get", "--data-urlencode"])
        .arg(format!("query={expression}"));
    let output = curl
        .arg(format!("http://127.0.0.1:{port}/api/v1/query"))
        .output()?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let each = series.iter().map(|one| {
        let value = one["value"][1].as_str().context("no value")?;
        Ok((one["metric"].clone(), value.parse()?))
    });
    each.collect()
}

fn sum(series: &[(Value, f64)]) -> f64 {
    series.iter().map(|(_, value)| value).sum()
}

#[test]
fn prometheus_scrapes_two_controllers_and_its_rules_add_them_up() -> Result<()> {
    let lab = Lab::new()?;
    let (first, second, own) = (19_177, 19_178, 19_090);
    let _one = controller(&lab, "one", first, &[("a", "transit"), ("b", "core")])?;
    let _two = controller(&lab, "two", second, &[("c", "peer")])?;
    let config = lab.dir().join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}/prometheus/*.yml\"]\n\
             scrape_configs:\n- job_name: forwarder\n  static_configs:\n  - targets: [\"127.0.0.1:{first}\", \"127.0.0.1:{second}\"]\n",
            shipped("").display()
        ),
    )?;
    let checked = Command::new("promtool")
        .arg("check")
        .arg("config")
        .arg(&config)
        .output();
    let checked = checked.context("promtool (Debian: prometheus) is missing: cargo xtask setup")?;
    ensure!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let log = fs::File::create(lab.dir().join("prometheus.log"))?;
    let prometheus = lab
        .command("router", "prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            lab.dir().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{own}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let _prometheus =
        Process(prometheus.context("prometheus (Debian package) is missing: cargo xtask setup")?);
    lab.wait("both controllers to be scraped", || {
        let up = query(&lab, own, "up{job=\"forwarder\"}")?;
        Ok((sum(&up) == 2.0).then_some(()))
    })?;
    // From a to b by the fast path; c hears what the kernel says.
    let frames = 200;
    let wire = lab.wire("a")?;
    for _ in 0..frames {
        let data = forwarder_tests::frame::udp(5, 6, 400);
        let macs = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
        let (from, to) = ([10, 1, 0, 2].into(), [10, 2, 0, 2].into());
        wire.send(&forwarder_tests::frame::ipv4(
            macs,
            from,
            to,
            forwarder_tests::frame::UDP,
            64,
            &data,
        ))?;
    }
    let received = "sum(forwarder_received_packets_total{ifname=\"a\"})";
    lab.wait("what came in to be scraped", || {
        let scraped = sum(&query(&lab, own, received)?);
        Ok((scraped >= f64::from(frames)).then_some(()))
    })?;
    // Law 2, as Prometheus sees it: once all is still, what was received left with a reason.
    lab.wait("the sums to close", || {
        let open = "sum(forwarder_received_packets_total) - sum(forwarder_forwarded_packets_total) \
                    - sum(forwarder_passed_packets_total) - sum(forwarder_dropped_packets_total)";
        let series = query(&lab, own, open)?;
        Ok((series.len() == 1 && sum(&series) == 0.0).then_some(()))
    })?;
    // Both routers as one.
    for (record, at_least) in [
        ("forwarder:outside_received_bits:rate5m", 1.0),
        ("forwarder:forwarded_packets:rate5m", 0.0),
        ("forwarder:fast_path:ratio5m", 0.0),
        ("forwarder:link_load:ratio5m", 0.0),
    ] {
        // Rules for a whole network are worked out twice a minute.
        patient(&lab, record, || {
            let series = query(&lab, own, record)?;
            Ok((!series.is_empty() && sum(&series) >= at_least).then_some(()))
        })
        .with_context(|| format!("{record}: {:?}", query(&lab, own, record)))?;
    }
    let jobs = query(&lab, own, "forwarder:outside_received_bits:rate5m")?;
    ensure!(jobs.len() == 1, "one network, not {jobs:?}");
    let by_hand = "8 * sum(rate(forwarder_link_received_bytes_total{ifname=~\"a|c\"}[5m]))";
    let ratio = sum(&jobs) / sum(&query(&lab, own, by_hand)?);
    ensure!(
        (0.5..2.0).contains(&ratio),
        "the rule and the sum by hand differ: {ratio}"
    );
    // No rule of the alerts fails to be evaluated.
    let mut curl = lab.command("router", "curl");
    let output = curl
        .args(["--silent"])
        .arg(format!("http://127.0.0.1:{own}/api/v1/rules"))
        .output()?;
    let rules: Value = serde_json::from_slice(&output.stdout)?;
    for group in rules["data"]["groups"].as_array().into_iter().flatten() {
        for rule in group["rules"].as_array().into_iter().flatten() {
            ensure!(rule["health"] == "ok" || rule["health"] == "unknown", "{rule}");
        }
    }
    Ok(())
}
