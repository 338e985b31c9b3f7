//! `cargo xtask fuzz`: octets that nobody meant, for everything that reads octets from outside. Seeds are made anew each
//! time from what daemons and this kernel say (`tests/src/bin/fuzz-seeds.rs`); what libFuzzer finds to be new stays in
//! fuzz/corpus, and what breaks a target in fuzz/artifacts.
//!
//! `cargo xtask fuzz program` is another thing: frames that nobody meant through the XDP program in the kernel, which no sanitizer sees. It
//! is a test that is given time (`tests/tests/golden/fuzz`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xtask::procfs::Stat;

use crate::sh;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Targets, such as bgp_update; all of them when none is named. And "program": the XDP program in the kernel (root)
    targets: Vec<String>,
    /// Minutes of CPU time for each
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// Of the frames for "program": another seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

/// Memory of a target at most, sanitizer included: what grows with its input beyond that is a finding.
const MEMORY: &str = "-rss_limit_mb=1024";
/// One allocation at most: a length of 32 bits that was believed is more.
const ALLOCATION: &str = "-malloc_limit_mb=128";
/// Seconds for one input at most.
const SLOWEST: &str = "-timeout=10";
/// How long a target may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is called so is no target of libFuzzer's.
const PROGRAM: &str = "program";

/// What came of a target.
struct Outcome {
    target: String,
    figures: Figures,
    cpu: Duration,
    findings: Vec<PathBuf>,
    log: PathBuf,
}

/// What libFuzzer says at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: u64,
    /// Edges of the code that were reached.
    coverage: u64,
    corpus: u64,
    /// MiB.
    memory: u64,
    /// Seconds.
    slowest: u64,
}

/// Fuzzes, one target after the other, and ends with a table.
///
/// # Errors
/// Something is missing, a target does not compile, or one was broken.
pub fn run(args: &Args) -> Result<()> {
    if !args.minutes.is_finite() || args.minutes <= 0.0 {
        bail!("--minutes {}: more than none", args.minutes);
    }
    let (program, targets): (Vec<String>, Vec<String>) =
        args.targets.iter().cloned().partition(|target| target == PROGRAM);
    if !program.is_empty() {
        in_the_kernel(args)?;
        if targets.is_empty() {
            return Ok(());
        }
    }
    let triple = host()?;
    let fuzz = sh::workspace().join("fuzz");
    let targets = choose(&fuzz, &targets)?;
    let seeds = fuzz.join("seeds");
    if let Err(why) = fs::remove_dir_all(&seeds)
        && why.kind() != ErrorKind::NotFound
    {
        return Err(why).with_context(|| seeds.display().to_string());
    }
    sh::run(
        sh::cargo()
            .args(["run", "--package", "forwarder-tests", "--bin", "fuzz-seeds", "--"])
            .arg(&seeds)
            .stdout(Stdio::null()),
    )?;
    let built = sh::target_dir()?;
    sh::run(
        nightly()
            .args([
                "cargo",
                "fuzz",
                "build",
                "--release",
                "--target",
                &triple,
                "--target-dir",
            ])
            .arg(&built),
    )?;
    let programs = built.join(triple).join("release");
    let mut outcomes = Vec::new();
    for target in targets {
        eprintln!("== {target}");
        outcomes.push(one(
            &fuzz,
            &programs,
            &target,
            Duration::from_secs_f64(args.minutes * 60.0),
        )?);
    }
    print!("{}", table(&outcomes));
    let broken: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| !outcome.findings.is_empty())
        .collect();
    for outcome in &broken {
        for finding in &outcome.findings {
            let finding = finding.strip_prefix(sh::workspace()).unwrap_or(finding);
            eprintln!(
                "{}: cargo +nightly fuzz run {0} {}",
                outcome.target,
                finding.display()
            );
        }
    }
    if !broken.is_empty() {
        bail!(
            "found something in {} of {} targets",
            broken.len(),
            outcomes.len()
        );
    }
    Ok(())
}

/// Lets the test of the program run for that long, over both of its routers.
fn in_the_kernel(args: &Args) -> Result<()> {
    if !sh::is_root() {
        bail!("fuzzing the program loads it into the kernel, which takes root");
    }
    let seconds = (args.minutes * 60.0 / 2.0).ceil();
    sh::run(
        sh::cargo()
            .args(["test", "--package", "forwarder-tests", "--test", "golden", "--"])
            .args([
                "--exact",
                "fuzz::whatever_comes_in_the_program_holds_its_promises",
                "--nocapture",
            ])
            .env("FORWARDER_FUZZ_SECONDS", format!("{seconds}"))
            .env("FORWARDER_FUZZ_SEED", args.seed.to_string()),
    )
}

/// A command of the nightly toolchain.
fn nightly() -> Command {
    let mut rustup = Command::new("rustup");
    // What the cargo that runs us was told is not for another toolchain's.
    rustup
        .current_dir(sh::workspace())
        .args(["run", "nightly"])
        .env_remove("CARGO");
    rustup
}

/// The triple that nightly compiles for, when all is there that fuzzing needs.
fn host() -> Result<String> {
    let says = sh::output(nightly().args(["rustc", "-vV"]).stderr(Stdio::null()));
    let Some(says) = says else {
        bail!("the sanitizers need a nightly toolchain: rustup toolchain install nightly --profile minimal");
    };
    if sh::output(
        nightly()
            .args(["cargo", "fuzz", "--version"])
            .stderr(Stdio::null()),
    )
    .is_none()
    {
        bail!("no cargo-fuzz on PATH: cargo install --locked cargo-fuzz");
    }
    if sh::which("c++").is_none() {
        bail!("no C++ compiler, which libFuzzer is compiled with: apt-get install g++");
    }
    let triple = says.lines().find_map(|line| line.strip_prefix("host: "));
    triple
        .map(str::to_owned)
        .context("`rustc -vV` does not name its host")
}

/// The targets asked for, by the files that are there.
fn choose(fuzz: &Path, asked: &[String]) -> Result<Vec<String>> {
    let dir = fuzz.join("fuzz_targets");
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        if let Some(name) = entry?.file_name().to_string_lossy().strip_suffix(".rs") {
            there.insert(name.to_owned());
        }
    }
    if let Some(unknown) = asked.iter().find(|target| !there.contains(*target)) {
        let there: Vec<_> = there.into_iter().collect();
        bail!("no target {unknown}; there are {}", there.join(", "));
    }
    Ok(if asked.is_empty() {
        there.into_iter().collect()
    } else {
        asked.to_vec()
    })
}

/// Lets one target run until it has used that much CPU time, or is broken.
fn one(fuzz: &Path, programs: &Path, target: &str, time: Duration) -> Result<Outcome> {
    let [corpus, artifacts, seeds] = ["corpus", "artifacts", "seeds"].map(|dir| fuzz.join(dir).join(target));
    for dir in [&corpus, &artifacts, &seeds] {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let before = files(&artifacts)?;
    let log = fuzz.join("artifacts").join(format!("{target}.log"));
    let out = File::create(&log).with_context(|| log.display().to_string())?;
    let mut child = Command::new(programs.join(target))
        .args([&corpus, &seeds])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([MEMORY, ALLOCATION, SLOWEST, "-print_final_stats=1"])
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("cannot run {target}"))?;
    let cpu = watch(&mut child, time)?;
    let findings = files(&artifacts)?.difference(&before).cloned().collect();
    let said = fs::read(&log)?;
    let figures = Figures::read(&String::from_utf8_lossy(&said));
    let outcome = Outcome {
        target: target.to_owned(),
        figures,
        cpu,
        findings,
        log,
    };
    if outcome.findings.is_empty() && outcome.figures.executions == 0 {
        bail!("{target} did not run: see {}", outcome.log.display());
    }
    Ok(outcome)
}

/// Waits for it to end, and asks it to once it has used `time` of a CPU. Answers how much it used.
fn watch(child: &mut Child, time: Duration) -> Result<Duration> {
    let mut used = Duration::ZERO;
    let mut asked = None;
    while child.try_wait()?.is_none() {
        used = Stat::of(child.id()).map_or(used, |stat| stat.cpu());
        match asked {
            None if used >= time => {
                // SAFETY: a signal to our own child, which has not been waited for.
                unsafe { libc::kill(child.id() as i32, libc::SIGUSR1) };
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > PATIENCE => child.kill()?,
            _ => {}
        }
        sleep(Duration::from_millis(200));
    }
    Ok(used)
}

fn files(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        found.insert(entry?.path());
    }
    Ok(found)
}

impl Figures {
    fn read(log: &str) -> Figures {
        let mut figures = Figures::default();
        for line in log.lines() {
            if let Some((name, value)) = line.strip_prefix("stat::").and_then(|line| line.split_once(':')) {
                let value = value.trim().parse().unwrap_or(0);
                match name {
                    "number_of_executed_units" => figures.executions = value,
                    "peak_rss_mb" => figures.memory = value,
                    "slowest_unit_time_sec" => figures.slowest = value,
                    _ => {}
                }
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                match pair {
                    ["cov:", value] => figures.coverage = value.parse().unwrap_or(0),
                    // Inputs, and their size.
                    ["corp:", value] => {
                        let inputs = value.split('/').next().unwrap_or_default();
                        figures.corpus = inputs.parse().unwrap_or(0);
                    }
                    _ => {}
                }
            }
        }
        figures
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<12} {:>12} {:>8} {:>9} {:>8} {:>7} {:>8} {:>9}\n",
        "target", "executions", "a second", "coverage", "corpus", "MiB", "slowest", "findings"
    );
    for outcome in outcomes {
        let figures = &outcome.figures;
        let rate = figures.executions as f64 / outcome.cpu.as_secs_f64().max(0.01);
        text += &format!(
            "{:<12} {:>12} {:>8.0} {:>9} {:>8} {:>7} {:>6} s {:>9}\n",
            outcome.target,
            figures.executions,
            rate,
            figures.coverage,
            figures.corpus,
            figures.memory,
            figures.slowest,
            outcome.findings.len(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_libfuzzer_says() {
        let log = "INFO: Seed: 1\n\
                   #2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                   #512\tNEW    cov: 70 ft: 90 corp: 22/8192b lim: 4096 exec/s: 512 rss: 44Mb L: 9/9 MS: 1 X-\n\
                   Done 1000 runs in 1 second(s)\n\
                   stat::number_of_executed_units: 1000\n\
                   stat::average_exec_per_sec:     1000\n\
                   stat::slowest_unit_time_sec:    2\n\
                   stat::peak_rss_mb:              45\n";
        let wanted = Figures {
            executions: 1000,
            coverage: 70,
            corpus: 22,
            memory: 45,
            slowest: 2,
        };
        assert_eq!(Figures::read(log), wanted);
        assert_eq!(Figures::read("nothing of the kind\n"), Figures::default());
    }

    #[test]
    fn targets_are_those_with_a_file() {
        let fuzz = sh::workspace().join("fuzz");
        let all = choose(&fuzz, &[]).unwrap();
        assert!(all.iter().any(|target| target == "bgp_update"));
        let error = choose(&fuzz, &["nothing".to_owned()]).unwrap_err().to_string();
        assert!(
            error.starts_with("no target nothing; there are bgp_stream, "),
            "{error}"
        );
        // Each is built.
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for target in all {
            assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target}");
        }
    }
}
