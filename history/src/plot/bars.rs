//! Bar charts.

use std::fmt::Write;

use super::{COLOURS, OURS, WIDTH, document, text};

/// A chart of groups of bars.
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Lines below the title.
    pub notes: Vec<String>,
    /// The groups, from the top down.
    pub groups: Vec<Group>,
}

/// Bars to be compared with each other.
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// From the top down.
    pub bars: Vec<Bar>,
}

/// A bar.
pub struct Bar {
    /// Whose it is; bars of the same name have the same colour.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// What stands behind it.
    pub label: String,
}

/// Where bars begin, and the room behind the longest for its label.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 170.0;
const LINE: f64 = 20.0;
/// Characters of a group's name that have room before the names of its bars.
const LONGEST: usize = 18;
impl Chart {
    /// A chart of these bars alone, which have this in common.
    pub fn of(title: &str, notes: Vec<String>, name: &str, bars: impl IntoIterator<Item = Bar>) -> Chart {
        Chart {
            title: title.to_owned(),
            notes,
            groups: vec![Group {
                name: name.to_owned(),
                bars: bars.into_iter().collect(),
            }],
        }
    }

    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let longest = bars
            .clone()
            .map(|bar| bar.value)
            .fold(f64::MIN_POSITIVE, f64::max);
        let mut names: Vec<&str> = Vec::new();
        for bar in bars {
            if bar.name != "forwarder" && !names.contains(&&*bar.name) {
                names.push(&bar.name);
            }
        }
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
        y += 16.0;
        for group in &self.groups {
            y += 12.0;
            text(&mut body, (16.0, y + 14.0), "font-weight=\"bold\"", &group.name);
            // A long name has a line to itself.
            if group.name.chars().count() > LONGEST {
                y += LINE;
            }
            for bar in &group.bars {
                let colour = names
                    .iter()
                    .position(|name| *name == bar.name)
                    .map_or(OURS, |at| COLOURS[at % COLOURS.len()]);
                let width = (bar.value / longest * (WIDTH - LEFT - RIGHT)).max(1.0);
                text(
                    &mut body,
                    (LEFT - 8.0, y + 14.0),
                    "text-anchor=\"end\"",
                    &bar.name,
                );
                let _ = writeln!(
                    body,
                    "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                    y + 2.0,
                    LINE - 4.0
                );
                text(&mut body, (LEFT + width + 6.0, y + 14.0), "", &bar.label);
                y += LINE;
            }
        }
        document(y + 20.0, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value_and_words_are_escaped() {
        let bar = |name: &str, value| Bar {
            name: name.into(),
            value,
            label: "a < b".into(),
        };
        let chart = Chart {
            title: "t".into(),
            notes: vec![],
            groups: vec![Group {
                name: "g".into(),
                bars: vec![bar("other", 100.0), bar("forwarder", 50.0)],
            }],
        };
        let svg = chart.svg();
        let whole = WIDTH - LEFT - RIGHT;
        assert!(svg.contains(&format!("width=\"{whole:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("width=\"{:.1}\"", whole / 2.0)), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains(OURS), "{svg}");
    }
}
