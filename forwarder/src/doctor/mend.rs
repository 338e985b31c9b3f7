//! `forwarder doctor --fix`: runs the commands of findings that are safe to mend.

use std::process::{Command, Stdio};

use super::Finding;

/// Runs the safe commands, and tells `say` of each before it runs and what came of it.
pub fn mend(findings: &mut [Finding], say: &mut dyn FnMut(&str)) {
    for finding in findings.iter_mut().filter(|finding| finding.safe) {
        let Some(command) = finding.fix.clone() else {
            continue;
        };
        say(&format!("$ {command}"));
        let result = run(&command);
        if let Err(why) = &result {
            say(&format!("  failed: {why}"));
        }
        finding.fixed = Some(result.is_ok());
    }
}

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("{program}: {why}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty());
    Err(line.map_or_else(|| output.status.to_string(), str::to_string))
}
