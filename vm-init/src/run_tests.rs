//! Runs tests, each in a process of its own: one that hangs or kills its process takes no other with it.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vm_init::{
    plan::{Binary, Plan},
    say::Say,
};

use crate::system;

/// What the test that runs has printed.
const OUTPUT: &str = "/run/output";
/// Lines of a test's output that are told: the last ones, which say why it failed.
const LINES: usize = 400;

/// The tests' environment.
pub fn environment(plan: &Plan) -> Vec<(String, String)> {
    let mut all = vec![
        ("PATH".to_owned(), system::PATH.to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
    ];
    all.extend(plan.environment.iter().cloned());
    all
}

/// Runs those tests of a binary that the plan wants.
///
/// # Errors
/// What is said does not reach the host.
pub fn binary(plan: &Plan, binary: &Binary, say: &mut dyn FnMut(Say) -> Result<()>) -> Result<()> {
    let tests = match list(plan, binary) {
        Ok(tests) => tests,
        Err(error) => {
            let name = format!("{}::(its list of tests)", binary.name);
            say(Say::Begin(name.clone()))?;
            say(Say::Out(format!("{error:#}")))?;
            return say(Say::Failed(name, 0.0));
        }
    };
    for test in tests {
        let Some(name) = binary.wanted(&test, &plan.filter) else {
            continue;
        };
        say(Say::Begin(name.clone()))?;
        let start = Instant::now();
        let result = one(plan, binary, &test);
        let seconds = start.elapsed().as_secs_f64();
        let output = fs::read(OUTPUT).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<_> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            say(Say::Out((*line).to_owned()))?;
        }
        match result {
            Ok(()) => say(Say::Ok(name, seconds))?,
            Err(error) => {
                say(Say::Out(format!("{error:#}")))?;
                say(Say::Failed(name, seconds))?;
            }
        }
    }
    Ok(())
}

/// The names of a binary's tests.
fn list(plan: &Plan, binary: &Binary) -> Result<Vec<String>> {
    let all = listed(plan, binary, &[])?;
    if binary.ignored {
        return Ok(all);
    }
    let ignored = listed(plan, binary, &["--ignored"])?;
    Ok(all.into_iter().filter(|name| !ignored.contains(name)).collect())
}

fn listed(plan: &Plan, binary: &Binary, more: &[&str]) -> Result<Vec<String>> {
    let output = Command::new(&binary.path)
        .args(["--list", "--format", "terse"])
        .args(more)
        .envs(environment(plan))
        .output()
        .with_context(|| format!("cannot run {}", binary.path))?;
    ensure!(
        output.status.success(),
        "{} --list: {}\n{}",
        binary.path,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// Runs one test to its end, or to the end of its time.
fn one(plan: &Plan, binary: &Binary, test: &str) -> Result<()> {
    let output = File::create(OUTPUT).context(OUTPUT)?;
    let mut command = Command::new(&binary.path);
    command.args([test, "--exact", "--nocapture", "--test-threads", "1"]);
    if binary.ignored {
        command.arg("--include-ignored");
    }
    let mut child = command
        .envs(environment(plan))
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(output.try_clone().context(OUTPUT)?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", binary.path))?;
    let group = child.id() as i32;
    let until = Instant::now() + plan.limit;
    let status = loop {
        if let Some(status) = child.try_wait().context("wait")? {
            break Some(status);
        }
        if Instant::now() >= until {
            break None;
        }
        sleep(Duration::from_millis(10));
    };
    // Also what it left behind, which would hold its namespaces.
    // SAFETY: a signal to the group that we made.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    if status.is_none() {
        child.wait().context("wait")?;
    }
    system::reap();
    let status = status.with_context(|| {
        format!(
            "killed: not done after {} s, the limit for one test",
            plan.limit.as_secs()
        )
    })?;
    ensure!(status.success(), "{status}");
    Ok(())
}
