//! Curves over time, a panel below the other, with lines across for what is billed, contracted or possible.

use std::fmt::Write;

use super::{COLOURS, WIDTH, document, text};

/// A picture of curves.
#[derive(Clone, Debug)]
pub struct Lines {
    /// What it shows.
    pub title: String,
    /// Lines below the title.
    pub notes: Vec<String>,
    /// The panels, from the top down; they share their time.
    pub panels: Vec<Panel>,
    /// What stands below the time axis: seconds since 1970, and the word.
    pub ticks: Vec<(i64, String)>,
}

/// Curves to be compared with each other.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What they have in common.
    pub name: String,
    /// The curves.
    pub lines: Vec<Line>,
    /// Lines across.
    pub marks: Vec<Mark>,
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Seconds since 1970, bits a second; in order.
    pub points: Vec<(i64, u64)>,
    /// Points that are further apart than this, in seconds, are not joined.
    pub apart: i64,
}

/// A line across.
#[derive(Clone, Debug)]
pub struct Mark {
    /// What it is.
    pub name: String,
    /// Where, bits a second.
    pub value: u64,
}

const LEFT: f64 = 90.0;
const RIGHT: f64 = 190.0;
const HEIGHT: f64 = 180.0;
/// Points on a curve across the picture; of more, the lowest and highest in each place are drawn.
const COLUMNS: usize = 640;
/// Words closer together than this would overlap.
const LINE: f64 = 15.0;

/// Bits a second for people.
pub fn rate(bits: u64) -> String {
    const UNITS: [&str; 6] = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"];
    let (mut value, mut unit) = (bits as f64, 0);
    while value >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

impl Lines {
    /// The picture as an SVG document.
    pub fn svg(&self) -> String {
        let points = || {
            let lines = self.panels.iter().flat_map(|panel| &panel.lines);
            lines.flat_map(|line| &line.points).map(|(time, _)| *time)
        };
        let (from, to) = (points().min().unwrap_or(0), points().max().unwrap_or(0));
        let (from, to) = self.ticks.iter().fold((from, to), |(from, to), (time, _)| {
            (from.min(*time), to.max(*time))
        });
        let across = WIDTH - LEFT - RIGHT;
        let x = |time: i64| LEFT + (time - from) as f64 / ((to - from).max(1)) as f64 * across;
        let mut body = String::new();
        let mut y = 34.0;
        text(
            &mut body,
            (16.0, y),
            "font-size=\"18\" font-weight=\"bold\"",
            &self.title,
        );
        for note in &self.notes {
            y += 18.0;
            text(&mut body, (16.0, y), "font-size=\"12\" fill=\"#555555\"", note);
        }
        for panel in &self.panels {
            y += 34.0;
            text(&mut body, (16.0, y), "font-weight=\"bold\"", &panel.name);
            y += 16.0;
            self.panel(&mut body, panel, y, &x, (from, to));
            y += HEIGHT;
        }
        for (time, word) in self.spaced(&x) {
            text(
                &mut body,
                (x(time), y + 18.0),
                "text-anchor=\"middle\" font-size=\"12\"",
                word,
            );
        }
        document(y + 36.0, &body)
    }

    /// As many of the ticks as there is room for.
    fn spaced(&self, x: &dyn Fn(i64) -> f64) -> Vec<(i64, &str)> {
        let mut kept: Vec<(i64, &str)> = Vec::new();
        for (time, word) in &self.ticks {
            let wide = |word: &str| word.chars().count() as f64 * 7.0 + 12.0;
            let room = kept
                .last()
                .is_none_or(|(before, last)| x(*time) - x(*before) >= (wide(word) + wide(last)) / 2.0);
            if room {
                kept.push((*time, word));
            }
        }
        kept
    }

    fn panel(
        &self,
        body: &mut String,
        panel: &Panel,
        top: f64,
        x: &dyn Fn(i64) -> f64,
        (from, to): (i64, i64),
    ) {
        let values = panel
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|(_, value)| *value);
        let marks = panel.marks.iter().map(|mark| mark.value);
        let highest = values.chain(marks).max().unwrap_or(0).max(1);
        let step = step(highest);
        let most = highest.div_ceil(step).max(1) * step;
        let height = |value: u64| top + HEIGHT - value as f64 / most as f64 * HEIGHT;
        let right = WIDTH - RIGHT;
        for value in (0..=most / step).map(|n| n * step) {
            let at = height(value);
            let _ = writeln!(
                body,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>"
            );
            text(
                body,
                (LEFT - 8.0, at + 4.0),
                "text-anchor=\"end\" font-size=\"12\"",
                &rate(value),
            );
        }
        for (time, _) in &self.ticks {
            let at = x(*time);
            let low = top + HEIGHT;
            let _ = writeln!(
                body,
                "<line x1=\"{at:.1}\" y1=\"{low:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#999999\"/>",
                low + 4.0
            );
        }
        // What stands to the right: at its height, or where there is room next to it.
        let mut words: Vec<(f64, String, &str)> = Vec::new();
        for (index, line) in panel.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path = path(
                &thinned(&line.points, (from, to)),
                line.apart,
                x,
                &height,
                (from, to),
            );
            let _ = writeln!(
                body,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\" stroke-linejoin=\"round\"/>"
            );
            let last = line.points.last().map_or(0, |(_, value)| *value);
            words.push((height(last), line.name.clone(), colour));
        }
        for mark in &panel.marks {
            let at = height(mark.value);
            let colour = "#d55e00";
            let _ = writeln!(
                body,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"{colour}\" \
                 stroke-width=\"1.5\" stroke-dasharray=\"6 3\"/>"
            );
            words.push((at, format!("{} {}", mark.name, rate(mark.value)), colour));
        }
        words.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut lowest = top - LINE;
        let mut placed: Vec<f64> = words
            .iter()
            .map(|(at, ..)| {
                lowest = at.max(lowest + LINE);
                lowest
            })
            .collect();
        // What was pushed below the panel goes up again.
        let mut limit = top + HEIGHT;
        for at in placed.iter_mut().rev() {
            *at = at.min(limit);
            limit = *at - LINE;
        }
        for ((_, word, colour), at) in words.iter().zip(placed) {
            let attributes = format!("font-size=\"12\" fill=\"{colour}\"");
            text(body, (right + 8.0, at + 4.0), &attributes, word);
        }
    }
}

/// Round steps of an axis: some four to the top.
fn step(highest: u64) -> u64 {
    let rough = (highest / 4).max(1);
    let power = 10u64.pow(rough.ilog10());
    let times = match rough.div_ceil(power) {
        1 => 1,
        2 => 2,
        3..=5 => 5,
        _ => 10,
    };
    times * power
}

/// At most two points for each place: the lowest and the highest there.
fn thinned(points: &[(i64, u64)], (from, to): (i64, i64)) -> Vec<(i64, u64)> {
    if points.len() <= 2 * COLUMNS {
        return points.to_vec();
    }
    let column = |time: i64| (time - from) as u128 * COLUMNS as u128 / (to - from).max(1) as u128;
    let mut thin = Vec::new();
    for same in points.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let lowest = same.iter().min_by_key(|(_, value)| *value);
        let highest = same.iter().max_by_key(|(_, value)| *value);
        let mut pair: Vec<_> = lowest.into_iter().chain(highest).copied().collect();
        pair.sort_unstable_by_key(|(time, _)| *time);
        pair.dedup();
        thin.extend(pair);
    }
    thin
}

fn path(
    points: &[(i64, u64)],
    apart: i64,
    x: &dyn Fn(i64) -> f64,
    y: &dyn Fn(u64) -> f64,
    (from, to): (i64, i64),
) -> String {
    // Thinning makes neighbours of points that are not.
    let apart = apart.max((to - from) / COLUMNS as i64 * 2);
    let mut path = String::new();
    let mut before: Option<i64> = None;
    for (time, value) in points {
        let joined = before.is_some_and(|before| (0..=apart).contains(&(time - before)));
        let _ = write!(
            path,
            "{}{:.1} {:.1}",
            if joined { "L" } else { "M" },
            x(*time),
            y(*value)
        );
        before = Some(*time);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_for_people() {
        assert_eq!(
            [0, 999, 1_000, 12_345, 999_499, 999_500, 7_661_000_000].map(rate),
            [
                "0 bit/s",
                "999 bit/s",
                "1.00 kbit/s",
                "12.3 kbit/s",
                "999 kbit/s",
                "1.00 Mbit/s",
                "7.66 Gbit/s"
            ]
        );
    }

    #[test]
    fn a_curve_has_a_hole_where_there_are_no_samples_and_keeps_its_peaks_when_it_is_thinned() {
        let mut points: Vec<(i64, u64)> = (0..10_000).map(|n| (n * 300, 5)).collect();
        points.drain(2_000..3_000);
        points[5_000].1 = 1_000;
        let thin = thinned(&points, (0, 3_000_000));
        assert!(thin.len() <= 2 * COLUMNS && thin.contains(&points[5_000]));
        let path = path(&thin, 450, &|x| x as f64, &|y| y as f64, (0, 3_000_000));
        assert_eq!(path.matches('M').count(), 2, "{path}");
    }

    #[test]
    fn words_to_the_right_do_not_overlap_and_are_escaped() {
        let mark = |value| Mark {
            name: "a<b".into(),
            value,
        };
        let picture = Lines {
            title: "t".into(),
            notes: vec![],
            panels: vec![Panel {
                name: "p".into(),
                lines: vec![],
                marks: vec![mark(100), mark(100), mark(99), mark(0), mark(1)],
            }],
            ticks: vec![(0, "a".into()), (86_400, "b".into())],
        };
        let svg = picture.svg();
        let mut heights: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("a&lt;b"))
            .map(|line| {
                line.split("y=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 5);
        assert!(
            heights.windows(2).all(|pair| pair[1] - pair[0] >= LINE - 0.2),
            "{heights:?}"
        );
    }
}
