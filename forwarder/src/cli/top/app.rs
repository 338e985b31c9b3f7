//! What a person has chosen to see, and how keys change it. Knows neither terminal nor controller.

use std::collections::{HashMap, VecDeque};

use ipnet::IpNet;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    grid::{Cell, Grid, Kind, Sort},
    rates::Pair,
    reading::Reading,
    views::View,
};
use crate::stats::RouteRow;

/// Rates of a prefix that are kept while somebody looks at it.
const KEPT: usize = 600;

/// What is to be done by whoever has the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Draw.
    Draw,
    /// End.
    Quit,
    /// Stop, until the shell wants us back.
    Suspend,
}

/// A prefix that somebody looks at.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Which.
    pub prefix: IpNet,
    /// Octets and packets each second, the newest last.
    pub rates: VecDeque<(f64, f64)>,
    /// First line shown.
    pub scroll: u16,
}

/// Two readings, the later one last.
#[derive(Clone, Debug)]
pub struct Readings {
    /// The one before.
    pub before: Option<Reading>,
    /// The last.
    pub now: Reading,
}

/// What is seen.
pub struct App {
    /// Seconds between readings, as asked for.
    pub interval: f64,
    /// The view.
    pub view: View,
    /// How views are sorted where that is not as usual.
    pub sorts: HashMap<View, Sort>,
    /// The chosen row of each view.
    pub cursors: HashMap<View, usize>,
    /// Rows are shown that have this in them.
    pub filter: String,
    /// It is being typed.
    pub typing: bool,
    /// The help is shown.
    pub help: bool,
    /// The prefix that is looked at.
    pub watched: Option<Watched>,
    /// What is shown; it stays while paused.
    pub shown: Option<Readings>,
    /// What came since, while paused.
    pub later: Option<Readings>,
    /// Nothing that comes is shown.
    pub paused: bool,
    /// Why there is nothing newer.
    pub error: Option<String>,
    /// Rows of a page, as the screen was last drawn.
    pub page: usize,
}

impl App {
    /// Nothing read yet.
    pub fn new(interval: f64) -> App {
        App {
            interval,
            view: View::Now,
            sorts: HashMap::new(),
            cursors: HashMap::new(),
            filter: String::new(),
            typing: false,
            help: false,
            watched: None,
            shown: None,
            later: None,
            paused: false,
            error: None,
            page: 10,
        }
    }

    /// The prefix to read about.
    pub fn prefix(&self) -> Option<IpNet> {
        self.watched.as_ref().map(|watched| watched.prefix)
    }

    /// A reading came, or why none did.
    pub fn take(&mut self, reading: Result<Reading, String>) {
        let reading = match reading {
            Ok(reading) => reading,
            Err(why) => {
                self.error = Some(why);
                return;
            }
        };
        self.error = None;
        let newest = self.later.take().or_else(|| {
            if self.paused {
                self.shown.clone()
            } else {
                self.shown.take()
            }
        });
        let readings = Readings {
            before: newest.map(|readings| readings.now),
            now: reading,
        };
        self.note(&readings);
        if self.paused && self.shown.is_some() {
            self.later = Some(readings);
        } else {
            self.shown = Some(readings);
        }
    }

    /// Keeps the rate of the prefix that is looked at.
    fn note(&mut self, readings: &Readings) {
        let Some(watched) = &mut self.watched else { return };
        if let Some(rate) = prefix_rate(readings, watched.prefix) {
            if watched.rates.len() == KEPT {
                watched.rates.pop_front();
            }
            watched.rates.push_back(rate);
        }
    }

    /// The grid of a view, as it is wanted.
    pub fn grid(&self, view: View, readings: &Readings) -> Grid {
        view.grid(readings.before.as_ref(), &readings.now)
            .filtered(&self.filter)
            .sorted(self.sorts.get(&view).copied())
    }

    /// The chosen row of the view, if there are any.
    pub fn cursor(&self, rows: usize) -> usize {
        self.cursors
            .get(&self.view)
            .copied()
            .unwrap_or(0)
            .min(rows.saturating_sub(1))
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Step {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Step::Quit,
            KeyCode::Char('z') if control => return Step::Suspend,
            _ if self.typing => self.type_filter(key.code),
            // Any key ends the help, but one that quits quits.
            KeyCode::Char('q') => return Step::Quit,
            _ if self.help => self.help = false,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char(' ' | 'p') => self.pause(),
            _ if self.watched.is_some() => self.key_watching(key.code),
            code => self.key_listing(code),
        }
        Step::Draw
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.len() < 64 => self.filter.push(letter),
            _ => {}
        }
        self.cursors.clear();
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        if !self.paused
            && let Some(later) = self.later.take()
        {
            self.shown = Some(later);
        }
    }

    fn key_watching(&mut self, code: KeyCode) {
        let Some(watched) = &mut self.watched else { return };
        let page = self.page.max(1) as u16;
        match code {
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Enter | KeyCode::Left => self.watched = None,
            KeyCode::Up | KeyCode::Char('k') => watched.scroll = watched.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => watched.scroll = watched.scroll.saturating_add(1),
            KeyCode::PageUp => watched.scroll = watched.scroll.saturating_sub(page),
            KeyCode::PageDown => watched.scroll = watched.scroll.saturating_add(page),
            KeyCode::Home => watched.scroll = 0,
            KeyCode::Char(digit @ '1'..='9') => {
                self.watched = None;
                self.choose(digit);
            }
            _ => {}
        }
    }

    fn key_listing(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(digit @ '1'..='9') => self.choose(digit),
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(View::ALL.len() - 1),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Left | KeyCode::Char('<') => self.sort_beside(false),
            KeyCode::Right | KeyCode::Char('>') => self.sort_beside(true),
            KeyCode::Char('r') => self.reverse(),
            KeyCode::Enter => self.look_closer(),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-(self.page as isize)),
            KeyCode::PageDown => self.step(self.page as isize),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            _ => {}
        }
    }

    fn choose(&mut self, digit: char) {
        let index = digit.to_digit(10).map_or(0, |digit| digit as usize);
        if let Some(view) = index.checked_sub(1).and_then(|index| View::ALL.get(index)) {
            self.view = *view;
        }
    }

    fn turn(&mut self, by: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.view = View::ALL[(at + by) % View::ALL.len()];
    }

    /// The grid that is looked at.
    fn current(&self) -> Option<Grid> {
        Some(self.grid(self.view, self.shown.as_ref()?))
    }

    fn step(&mut self, by: isize) {
        let rows = self.current().map_or(0, |grid| grid.rows.len());
        let to = self
            .cursor(rows)
            .saturating_add_signed(by)
            .min(rows.saturating_sub(1));
        self.cursors.insert(self.view, to);
    }

    /// How the view is sorted now.
    pub fn sort(&self, grid: &Grid) -> Option<Sort> {
        let usual = grid.sort.map(|column| Sort {
            column,
            reversed: false,
        });
        self.sorts.get(&self.view).copied().or(usual)
    }

    fn sort_beside(&mut self, right: bool) {
        let Some(grid) = self.current() else { return };
        let columns = grid.columns.len();
        let column = match self.sort(&grid) {
            Some(sort) if right => (sort.column + 1) % columns,
            Some(sort) => (sort.column + columns - 1) % columns,
            None => 0,
        };
        let sort = Sort {
            column,
            reversed: false,
        };
        self.sorts.insert(self.view, sort);
        self.cursors.remove(&self.view);
    }

    fn reverse(&mut self) {
        let Some(grid) = self.current() else { return };
        if let Some(sort) = self.sort(&grid) {
            let reversed = !sort.reversed;
            self.sorts.insert(self.view, Sort { reversed, ..sort });
        }
    }

    /// Of a prefix, all that is known; of an interface, its reasons.
    fn look_closer(&mut self) {
        let Some(grid) = self.current() else { return };
        let row = grid.rows.get(self.cursor(grid.rows.len()));
        let Some(Cell::Text(name)) = row.and_then(|row| row.first()) else {
            return;
        };
        match self.view {
            View::Prefixes => {
                if let Ok(prefix) = name.parse() {
                    self.watched = Some(Watched {
                        prefix,
                        rates: VecDeque::new(),
                        scroll: 0,
                    });
                }
            }
            View::Now | View::Interfaces => {
                self.filter.clone_from(name);
                self.view = View::Reasons;
            }
            View::Reasons | View::NextHops | View::Networks | View::Rules | View::Feeds | View::Accounts => {}
        }
    }
}

/// Octets and packets each second of a prefix that was read twice.
pub fn prefix_rate(readings: &Readings, prefix: IpNet) -> Option<(f64, f64)> {
    let detail = |reading: &Reading| reading.detail.as_ref().map(|detail| detail.prefix);
    let before = readings.before.as_ref()?;
    if detail(before) != Some(prefix) || detail(&readings.now) != Some(prefix) {
        return None;
    }
    let [before, now] = [before, &readings.now].map(|reading| reading.detail.as_ref().map(|d| &d.routes));
    let now = now?;
    // Counters stand in the row of its first next hop.
    fn key(row: &RouteRow) -> bool {
        row.packets.is_some()
    }
    let first = now.rows.iter().find(|row| key(row))?;
    let pair = Pair::new(before, now, key);
    Some((
        pair.rate(&true, first, |row| row.bytes.unwrap_or(0))?,
        pair.rate(&true, first, |row| row.packets.unwrap_or(0))?,
    ))
}

/// A rate as it is shown where it stands alone.
pub fn rate(bytes: f64, packets: f64) -> String {
    format!(
        "{}bit/s {}pps",
        spaced(&Cell::Figure(bytes).shown(Kind::Bits)),
        spaced(&Cell::Figure(packets).shown(Kind::Packets))
    )
}

/// `12.3M` as `12.3 M`, and `7` as `7 `: a unit follows.
fn spaced(short: &str) -> String {
    match short.char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => format!("{} {letter}", &short[..at]),
        _ => format!("{short} "),
    }
}
