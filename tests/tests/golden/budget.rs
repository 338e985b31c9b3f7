//! What the verifier has to look at: a machine's budget, and our own below it.

use anyhow::{Result, ensure};
use forwarder::dataplane::{Sizes, tracer::Tracer};
use forwarder_tests::{kernel, sandbox::Sandbox};

/// Instructions the verifier may look at for the live program.
///
/// The kernel's limit is a million (`BPF_COMPLEXITY_LIMIT_INSNS`), but what counts against it grows in jumps: a branch
/// added before the pipeline forks doubles everything behind it, and older kernels prune less. So growth is noticed here,
/// while it is still small. It is also most of what a start takes that has nothing to lay: 220,000 were a third of a second.
///
/// 28,903 when this was last changed, on Linux 6.18. It stays so small because what a
/// packet does not need on its way to the redirect is a function to the verifier as well, looked at once, whatever stands
/// in front of it: the rules (`rules4`, `rules6`), each turn of their search (`rules_turn`), punt protection (`punt`), samples
/// (`sample`), and everything that is not forwarded (`leave`).
const LIVE: u32 = 36_000;
/// And for the tracing one, which takes notes after each step: 37,040.
const TRACING: u32 = 45_000;
/// The same where the verifier prunes less, live and tracing: 51,561 and 56,067 on Linux 6.1 (`cargo xtask vm`).
const OLDER: [u32; 2] = [66_000, 72_000];
/// The first that is not older, of the kernels that were looked at.
const NEWER: (u32, u32) = (6, 12);

/// What holds on the kernel that runs, live and tracing.
fn budgets() -> Result<[u32; 2]> {
    Ok(if kernel::version()? < NEWER {
        OLDER
    } else {
        [LIVE, TRACING]
    })
}

#[test]
fn the_programs_stay_within_their_verifier_budget() -> Result<()> {
    let [live, tracing] = budgets()?;
    // With counters by source prefix there is more of it.
    for sources in [false, true] {
        let sandbox = Sandbox::new(Sizes {
            sources,
            ..Sizes::SMALL
        })?;
        let programs = [
            ("live", live, sandbox.programs.verified_instructions()?),
            (
                "tracing",
                tracing,
                Tracer::open(&sandbox.pins)?.verified_instructions()?,
            ),
        ];
        for (name, budget, looked_at) in programs {
            println!(
                "the verifier looked at {looked_at} instructions of {budget} for the {name} program; counters by source: \
                 {sources}"
            );
            ensure!(
                looked_at <= budget,
                "the verifier looked at {looked_at} instructions for the {name} program, {budget} are budgeted: if the \
                 growth is wanted, raise the budget in the commit that causes it"
            );
        }
    }
    Ok(())
}
