//! Octets that nobody meant, through the real program: it never fails, what passes or is dropped is as it came, what is sent is the same
//! packet one hop further, and every packet is counted once.
//!
//! `cargo xtask fuzz program --minutes 10 --seed 7` runs it for longer, by these variables: `FORWARDER_FUZZ_SEED`, another seed;
//! `FORWARDER_FUZZ_SECONDS`, how long for each of the two routers; `FORWARDER_FUZZ_FRAME`, one frame alone, as a finding is printed.
//!
//! `world` has the routers, `state` what changes about them from batch to batch, `frames` makes the frames, `sent` knows what a frame
//! looks like one hop further, `look` runs one and looks at it.

mod frames;
mod look;
mod sent;
mod state;
mod world;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use forwarder_common::reason::Reason;
use forwarder_tests::{
    differential::{hex, shrink::shrink, unhex},
    random::Random,
};

use self::{
    frames::{Frame, Stock},
    look::Look,
    state::State,
    world::World,
};

const SEED: u64 = 1;
/// For each router, where nobody says anything else.
const SECONDS: u64 = 8;
/// Frames between two states of the router.
const BATCH: u64 = 2_000;
/// Frames tried to make a failing one smaller.
const TRIES: usize = 2_000;
/// Reasons that a short run meets at least.
const REASONS: usize = 32;

fn variable(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    let number = text
        .parse()
        .with_context(|| format!("{name}={text}: a number is expected"))?;
    Ok(Some(number))
}

/// A frame that somebody gives: ROUTER:STATE:IFINDEX:FIRST:HEXADECIMAL.
struct Given {
    router: String,
    state: u64,
    frame: Frame,
}

impl Given {
    fn read(text: &str) -> Result<Given> {
        let parts: Vec<&str> = text.split(':').collect();
        let [router, state, ingress, first, octets] = parts[..] else {
            bail!("ROUTER:STATE:IFINDEX:FIRST:HEXADECIMAL is expected, as a finding is printed");
        };
        Ok(Given {
            router: router.to_string(),
            state: state.parse().context("STATE")?,
            frame: Frame {
                ingress: ingress.parse().context("IFINDEX")?,
                first: first.parse().context("FIRST")?,
                octets: unhex(octets)?,
            },
        })
    }
}

/// What a run met.
#[derive(Default)]
struct Met {
    frames: u64,
    reasons: BTreeMap<&'static str, u64>,
}

impl Met {
    fn note(&mut self, reason: Reason) {
        self.frames += 1;
        *self.reasons.entry(reason.name()).or_default() += 1;
    }
}

#[test]
fn whatever_comes_in_the_program_holds_its_promises() -> Result<()> {
    let seed = variable("FORWARDER_FUZZ_SEED")?.unwrap_or(SEED);
    let seconds = variable("FORWARDER_FUZZ_SECONDS")?.unwrap_or(SECONDS);
    let given = std::env::var("FORWARDER_FUZZ_FRAME").ok();
    let given = given.map(|text| Given::read(&text)).transpose();
    let given = given.context("FORWARDER_FUZZ_FRAME")?;
    let mut met = Met::default();
    let begun = Instant::now();
    for make in [World::house, World::ring] {
        // The one before is gone: each has a network namespace, and so a CPU's counters, of its own.
        let world = make()?;
        if let Some(given) = &given {
            if given.router == world.name {
                let mut look = Look::new(&world);
                State::of(given.state).put(&world)?;
                look.begin();
                let reason = look.at(&given.frame)?;
                look.end()?;
                println!(
                    "{}: {} octets leave as {}",
                    world.name,
                    given.frame.octets.len(),
                    reason.name()
                );
            }
            continue;
        }
        run(&world, seed, Duration::from_secs(seconds), &mut met)?;
    }
    if given.is_some() {
        return Ok(());
    }
    let rate = met.frames as f64 / begun.elapsed().as_secs_f64();
    println!(
        "seed {seed}: {} frames, {rate:.0} a second, {} reasons:",
        met.frames,
        met.reasons.len()
    );
    for (reason, count) in &met.reasons {
        println!("  {reason:22} {count:>10}");
    }
    ensure!(met.reasons.len() >= REASONS, "only {:?}", met.reasons);
    Ok(())
}

fn run(world: &World, seed: u64, time: Duration, met: &mut Met) -> Result<()> {
    let stock = Stock::of(world);
    let mut look = Look::new(world);
    let until = Instant::now() + time;
    let mut batch = 0;
    while Instant::now() < until {
        let chosen = Random::new(seed.rotate_left(32) ^ batch).bits();
        let state = State::of(chosen);
        state.put(world)?;
        look.begin();
        for number in 0..BATCH {
            let mut random = Random::new(chosen ^ number.rotate_left(17));
            let (frame, sound) = stock.draw(&mut random);
            match look.at(&frame) {
                Ok(reason) => met.note(reason),
                Err(why) => return Err(finding(world, chosen, &mut look, &frame, &sound, &why)),
            }
        }
        // What only sums show is of the batch.
        look.end().with_context(|| {
            format!(
                "{}: the batch of state {chosen}, seed {seed}, {state:?}",
                world.name
            )
        })?;
        batch += 1;
    }
    Ok(())
}

/// What is left of a frame that shows a fault, and the line that shows it again.
fn finding(
    world: &World,
    state: u64,
    look: &mut Look<'_>,
    frame: &Frame,
    sound: &[u8],
    why: &anyhow::Error,
) -> anyhow::Error {
    let put = State::of(state);
    let fails = |octets: &[u8]| -> Result<bool> {
        // What is left of rates is as it was at first.
        put.put(world)?;
        look.begin();
        let smaller = Frame {
            octets: octets.to_vec(),
            ..frame.clone()
        };
        Ok(look.at(&smaller).is_err())
    };
    let small = match shrink(&frame.octets, sound, TRIES, fails) {
        Ok(small) => small.frame,
        Err(_) => frame.octets.clone(),
    };
    let line = |octets: &[u8]| {
        format!(
            "FORWARDER_FUZZ_FRAME={}:{state}:{}:{}:{} cargo test -p forwarder-tests --test golden -- fuzz --nocapture",
            world.name,
            frame.ingress,
            frame.first,
            hex(octets)
        )
    };
    anyhow::anyhow!(
        "{}, {put:?}: {why:#}\n{}\nand as it was at first\n{}",
        world.name,
        line(&small),
        line(&frame.octets)
    )
}

/// The search itself: a program that is right, and frames that are held against something wrong.
#[test]
fn a_fault_is_noticed_and_made_small() -> Result<()> {
    let world = World::house()?;
    let stock = Stock::of(&world);
    let mut look = Look::new(&world);
    let state = State::quiet();
    state.put(&world)?;
    look.begin();
    let sent = (0..10_000u64)
        .map(|number| stock.draw(&mut Random::new(number)))
        .find(|(frame, _)| matches!(look.at(frame), Ok(Reason::Forwarded)));
    let (frame, _) = sent.context("nothing is forwarded")?;
    // Counted twice, by somebody who also runs it.
    world.sandbox.programs.run(frame.ingress, &frame.octets)?;
    let why = look.at(&frame).expect_err("two packets were taken for one");
    ensure!(why.to_string().contains("counted"), "{why:#}");
    look.begin();
    // A next hop whose entry says another address than the frame gets.
    let (_, out) = world.sandbox.programs.run(frame.ingress, &frame.octets)?;
    for at in 0..out.len() {
        let mut wrong = out.clone();
        wrong[at] ^= 0x40;
        let said = sent::hop_of(&world, &frame.octets, &wrong);
        ensure!(said.is_err(), "octet {at} may be anything: {wrong:02x?}");
    }
    ensure!(sent::hop_of(&world, &frame.octets, &out).is_ok());
    Ok(())
}
