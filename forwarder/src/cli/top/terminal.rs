//! The terminal, the clock and the threads of the live screen.
//!
//! Three threads tell one that draws: of keys, of readings, of signals. A controller that is slow, or away, stops the figures
//! and nothing else. Whatever ends the program, the terminal is as it was: it is given back on the way out, by the panic hook
//! that ratatui sets, and on signals because they end it like the key that quits.

use std::{
    io,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEvent, KeyEventKind},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    app::{App, Step},
    reading::{self, Kept, Reading},
    screen::{self, Palette},
};
use crate::{cli::reader::Reader, locked::locked};

/// What the drawing thread is told.
enum News {
    Key(KeyEvent),
    Resized,
    Reading(Box<Result<Reading, String>>),
    /// A signal, or the terminal is gone.
    End,
}

/// The prefix to read about; a change of it wakes the reader.
#[derive(Default)]
struct Wanted {
    prefix: Mutex<Option<IpNet>>,
}

/// Shows the live screen until somebody ends it.
///
/// # Errors
/// There is nothing to show, or the terminal refuses.
pub fn run(reader: Reader, interval: Duration) -> Result<()> {
    // What is wrong from the start is said where it can be read.
    let first = reading::read(&reader, None, &mut Kept::default())?;
    let mut app = App::new(interval.as_secs_f64());
    app.take(Ok(first));
    let (tell, told) = mpsc::channel();
    let wanted = Arc::new(Wanted::default());
    let (wake, woken) = mpsc::channel();
    watch_signals(tell.clone())?;
    let asked = Arc::clone(&wanted);
    let readings = tell.clone();
    spawn("readings", move || {
        read_on(&reader, interval, &asked, &woken, &readings)
    })?;
    let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
    let result = spawn("keys", move || read_keys(&tell))
        .and_then(|()| show(&mut terminal, &mut app, &told, &wanted, &wake));
    ratatui::restore();
    result
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread
        .map(drop)
        .with_context(|| format!("cannot start the thread {name}"))
}

fn show(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    told: &Receiver<News>,
    wanted: &Wanted,
    wake: &Sender<()>,
) -> Result<()> {
    let palette = Palette {
        colours: std::env::var_os("NO_COLOR").is_none(),
    };
    loop {
        terminal.draw(|frame| screen::draw(frame, app, palette))?;
        let Ok(news) = told.recv() else {
            bail!("the threads of the screen have ended");
        };
        // What has piled up meanwhile costs one drawing, not one each.
        for news in std::iter::once(news).chain(told.try_iter()) {
            match news {
                News::Key(key) => match app.key(key) {
                    Step::Draw => {}
                    Step::Quit => return Ok(()),
                    Step::Suspend => {
                        suspend(terminal)?;
                    }
                },
                News::Reading(reading) => app.take(*reading),
                // Drawing looks at the size.
                News::Resized => {}
                News::End => return Ok(()),
            }
        }
        let prefix = app.prefix();
        let mut known = locked(&wanted.prefix);
        if *known != prefix {
            *known = prefix;
            let _ = wake.send(());
        }
    }
}

/// Gives the terminal to the shell until it wants us back.
fn suspend(terminal: &mut DefaultTerminal) -> Result<()> {
    ratatui::restore();
    // SAFETY: a signal to ourselves, whose default stops the process.
    unsafe { libc::raise(libc::SIGTSTP) };
    // A new one knows of nothing that is drawn. To clear it would ask where the cursor is, and the answer would go to the thread
    // that reads keys.
    *terminal = ratatui::try_init().context("cannot take the terminal again")?;
    Ok(())
}

fn read_keys(tell: &Sender<News>) {
    loop {
        let news = match event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => News::Key(key),
            Ok(Event::Resize(..)) => News::Resized,
            Ok(_) => continue,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => News::End,
        };
        let over = matches!(news, News::End);
        if tell.send(news).is_err() || over {
            return;
        }
    }
}

/// Reads at the interval, and at once when another prefix is wanted.
fn read_on(reader: &Reader, interval: Duration, wanted: &Wanted, woken: &Receiver<()>, tell: &Sender<News>) {
    let mut next = Instant::now() + interval;
    let mut kept = Kept::default();
    loop {
        let wait = next.saturating_duration_since(Instant::now());
        match woken.recv_timeout(wait) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        let prefix = *locked(&wanted.prefix);
        let reading = reading::read(reader, prefix, &mut kept).map_err(|why| format!("{why:#}"));
        if tell.send(News::Reading(Box::new(reading))).is_err() {
            return;
        }
        // One that took long is not followed by several at once.
        next = (next + interval).max(Instant::now() + interval / 2);
    }
}

fn watch_signals(tell: Sender<News>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let context = runtime.enter();
    let watch = |kind| signal(kind).context("cannot watch for signals");
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hang_up = watch(SignalKind::hangup())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    drop(context);
    spawn("signals", move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let _ = tell.send(News::End);
    })
}
