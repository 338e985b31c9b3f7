//! What the verifier has to look at: a machine's budget, and our own below it.

use anyhow::{Result, ensure};
use forwarder::dataplane::Sizes;
use forwarder_tests::sandbox::Sandbox;

/// Instructions the verifier may look at for the live program.
///
/// The kernel's limit is a million (`BPF_COMPLEXITY_LIMIT_INSNS`), but what counts against it grows in jumps: a branch
/// added before the pipeline forks doubles everything behind it, and older kernels prune less. So growth is noticed here,
/// while it is still small. 10,777 when this was last raised: what nearly every packet is has a short way beside the long
/// one, and what follows is looked at behind both.
const BUDGET: u32 = 11_500;

#[test]
fn the_program_stays_within_its_verifier_budget() -> Result<()> {
    let sandbox = Sandbox::new(Sizes::SMALL)?;
    let looked_at = sandbox.programs.verified_instructions()?;
    println!("the verifier looked at {looked_at} instructions of {BUDGET}");
    ensure!(
        looked_at <= BUDGET,
        "the verifier looked at {looked_at} instructions, {BUDGET} are budgeted: if the growth is wanted, raise the \
         budget in the commit that causes it"
    );
    Ok(())
}
