//! Law 4, while routes change and the controller does not hear of it: killed, stopped, or without a CPU. Packets go by the old route for
//! `max-age` at most; then by the kernel's, past the fast path, with the filters in force; and when the controller can act again, the fast path begins
//! with the new routes and with nothing else.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use forwarder::{
    cpus::tie,
    daemon::ports,
    dataplane::{Tables, pins::Pins},
};
use forwarder_common::reason::Reason;
use forwarder_tests::{
    controller::Controller,
    cpus, frame,
    lab::Lab,
    operator::{patient, sound},
    traffic,
};

const TO: [&str; 2] = ["5.1.0.1", "2a05::1"];
/// Seconds of `max-age`.
const MAX_AGE: u64 = 2;
/// The program's clock is a coarse one, of some milliseconds; and a packet that is on its way was sent before.
const COARSE: Duration = Duration::from_millis(100);
/// Routes that change before those that packets follow: a controller that takes the first news for all of it is found out.
const MANY: usize = 20_000;
/// Packets that must have gone the new way.
const ENOUGH: u64 = 40;
const INTERFACES: [&str; 3] = ["a", "b", "c"];

/// All routes, by a carrier: of the two at b and c.
fn routes(carrier: u8) -> String {
    let mut lines: String = (0..MANY)
        .map(|number| {
            let (high, low) = (number / 256, number % 256);
            format!("route replace 6.{high}.{low}.0/24 via 10.{carrier}.0.2\n")
        })
        .collect();
    for (prefix, via) in [("5.1.0.0/16", "10."), ("2a05::/32", "fd00:")] {
        let rest = if via == "10." { ".0.2" } else { "::2" };
        lines += &format!("route replace {prefix} via {via}{carrier}{rest}\n");
    }
    lines
}

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.batch("router", &routes(2))?;
    lab.resolve_carriers()?;
    Ok(lab)
}

fn start(lab: &Lab) -> Result<Controller<'_>> {
    let more = format!(
        "[routes]\nmax-age = \"{MAX_AGE}s\"\n[[filter.rule]]\nmatch = {{ src = \"10.200.0.1/32\" }}\naction = \"drop\"\n"
    );
    lab.start(&INTERFACES, &more)
}

/// What the program counted for what came in from host a: nobody need answer for that.
struct Counts {
    tables: Tables,
    port: u32,
}

impl Counts {
    fn open(lab: &Lab) -> Result<Counts> {
        let ifindex = lab.ip_json("router", "link show dev a")?[0]["ifindex"].as_u64();
        let tables = Pins::new(&lab.pins()).open(false)?;
        let port = ports::used(&tables)
            .find(|(_, entry)| Some(u64::from(entry.ifindex)) == ifindex)
            .context("a has no port")?
            .0;
        Ok(Counts { tables, port })
    }

    fn of(&self, reason: Reason) -> u64 {
        self.tables.reasons(self.port)[reason.index()].packets
    }
}

/// Has routes change while a controller cannot act, as `stall` and `wake` have it, and watches where packets go.
fn follows<'a, S, W>(
    lab: &'a Lab,
    stall: impl FnOnce(Controller<'a>) -> Result<S>,
    wake: impl FnOnce(S) -> Result<W>,
) -> Result<W> {
    let controller = start(lab)?;
    let counts = Counts::open(lab)?;
    let before = [Reason::Forwarded, Reason::ControllerStale].map(|reason| counts.of(reason));
    let (awake, arrived) = traffic::under(lab, &TO, |traffic| {
        let moved = traffic.flow(ENOUGH)?;
        ensure!(
            moved.iter().all(|[_, c]| *c == 0),
            "by the first route: {moved:?}"
        );
        ensure!(
            counts.of(Reason::ControllerStale) == before[1],
            "stale while it is alive"
        );
        let stalled = stall(controller)?;
        lab.batch("router", &routes(3))?;
        // A heartbeat says that the tables were true at that moment. None of a later moment than this can be, by any clock.
        std::thread::sleep(Duration::from_secs(MAX_AGE) + COARSE);
        traffic.flow(2)?;
        let old = traffic.arrived();
        // A controller that has hardly a CPU may have one for long enough to be right for a moment; not again and again.
        let stale = counts.of(Reason::ControllerStale);
        patient(
            lab,
            "packets to be handed to the kernel as controller-stale",
            || {
                traffic.flow(1)?;
                Ok((counts.of(Reason::ControllerStale) > stale + ENOUGH).then_some(()))
            },
        )?;
        // Filters stay.
        let dropped = counts.of(Reason::Rule);
        let from = lab.wire("a")?;
        let unwanted = frame::ipv4(
            traffic::MACS,
            [10, 200, 0, 1].into(),
            [5, 1, 0, 1].into(),
            frame::UDP,
            64,
            &frame::udp(1024, 53, 8),
        );
        from.send(&unwanted)?;
        lab.wait("the rule to drop it", || {
            Ok((counts.of(Reason::Rule) == dropped + 1).then_some(()))
        })?;
        let forwarded = counts.of(Reason::Forwarded);
        let awake = wake(stalled)?;
        patient(lab, "the fast path to go on", || {
            traffic.flow(1)?;
            Ok((counts.of(Reason::Forwarded) > forwarded + ENOUGH).then_some(()))
        })?;
        traffic.flow(ENOUGH)?;
        let now = traffic.arrived();
        let by_old = now.iter().zip(&old).all(|(now, old)| now[0] == old[0]);
        ensure!(by_old, "packets went by the old route after {old:?}: {now:?}");
        Ok(awake)
    })?;
    // Every packet that was sent arrived, the stream saw to that; and each was counted once, for one of two reasons.
    let sent: u64 = arrived.iter().flatten().sum();
    let [forwarded, stale] = [Reason::Forwarded, Reason::ControllerStale].map(|reason| counts.of(reason));
    ensure!(
        forwarded - before[0] + stale - before[1] == sent,
        "sent {sent}: forwarded {}, stale {}",
        forwarded - before[0],
        stale - before[1]
    );
    println!("{sent} sent, {} of them by the kernel", stale - before[1]);
    sound(lab, &INTERFACES)?;
    Ok(awake)
}

#[test]
fn routes_that_change_while_it_is_dead_are_followed_from_the_first_packet_of_its_successor() -> Result<()> {
    let lab = lab()?;
    follows(&lab, Controller::kill, |()| start(&lab)).map(drop)
}

#[test]
fn routes_that_change_while_it_is_stopped_are_followed_from_the_first_packet_after() -> Result<()> {
    let lab = lab()?;
    follows(
        &lab,
        |controller| {
            controller.pause(true);
            Ok(controller)
        },
        |controller| {
            controller.pause(false);
            Ok(controller)
        },
    )
    .map(drop)
}

#[test]
fn routes_that_change_while_it_has_no_cpu_are_followed_from_the_first_packet_after() -> Result<()> {
    let lab = lab()?;
    let [crowded, other] = cpus::two()?;
    let full = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let result = cpus::on(other, || {
            follows(
                &lab,
                |controller| {
                    for _ in 0..8 {
                        scope.spawn(|| {
                            let tied = tie(&[crowded]);
                            while full.load(Relaxed) && tied.is_ok() {
                                std::hint::spin_loop();
                            }
                        });
                    }
                    schedule(&controller, libc::SCHED_IDLE, &[crowded])?;
                    Ok(controller)
                },
                |controller| {
                    full.store(false, Relaxed);
                    schedule(&controller, libc::SCHED_OTHER, &[crowded, other])?;
                    Ok(controller)
                },
            )
        });
        full.store(false, Relaxed);
        result.map(drop)
    })
}

/// Puts every thread of a controller on these CPUs, in this class of the scheduler (sched(7)).
fn schedule(controller: &Controller<'_>, class: i32, cpus: &[usize]) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{}/task", controller.pid()))? {
        let thread: i32 = task?.file_name().to_string_lossy().parse()?;
        // SAFETY: all zeros is an empty set, and the value of a structure with one number.
        let (mut set, parameter): (libc::cpu_set_t, libc::sched_param) = unsafe { std::mem::zeroed() };
        for cpu in cpus {
            // SAFETY: the number of a CPU that there is.
            unsafe { libc::CPU_SET(*cpu, &mut set) };
        }
        // SAFETY: both structures are ours and live; a thread that has ended is an error.
        let failed = unsafe {
            libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set) != 0
                || libc::sched_setscheduler(thread, class, &raw const parameter) != 0
        };
        ensure!(!failed, "thread {thread}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
