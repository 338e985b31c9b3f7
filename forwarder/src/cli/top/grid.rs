//! A table of figures before anybody has decided how it is shown: `--json` prints it, sorting compares it, the screen draws
//! what of it fits.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// What stands in a column, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Text,
    /// Octets each second, shown as bits.
    Bits,
    /// Packets each second.
    Packets,
    /// Those that nobody wants: packets dropped or lost each second.
    Lost,
    /// Things.
    Count,
    /// Octets.
    Octets,
    /// A part of one, shown in hundredths.
    Share,
    /// The same of a link, where much of it is a warning.
    Load,
    /// Bits each second that a link carries.
    Speed,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// Its field in JSON.
    pub key: &'static str,
    /// What stands in it.
    pub kind: Kind,
    /// Those of the highest rank give way first on a narrow screen; 0 never does.
    pub rank: u8,
}

/// One figure or word.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A figure in the unit of its column.
    Figure(f64),
    /// Nothing is known.
    Unknown,
}

impl Cell {
    /// Words, or nothing.
    pub fn text(word: Option<&str>) -> Cell {
        word.map_or(Cell::Unknown, |word| Cell::Text(word.into()))
    }

    /// A figure, or nothing.
    pub fn figure(figure: Option<f64>) -> Cell {
        figure.map_or(Cell::Unknown, Cell::Figure)
    }

    /// A count.
    pub fn count(count: u64) -> Cell {
        Cell::Figure(count as f64)
    }

    fn json(&self, kind: Kind) -> Value {
        match (self, kind) {
            (Cell::Text(word), _) => word.as_str().into(),
            (Cell::Unknown, _) => Value::Null,
            (Cell::Figure(share), Kind::Share | Kind::Load) => ((share * 10_000.0).round() / 10_000.0).into(),
            (Cell::Figure(figure), _) => (figure.max(0.0).round() as u64).into(),
        }
    }

    /// As it is shown.
    pub fn shown(&self, kind: Kind) -> String {
        let figure = match self {
            Cell::Text(word) => return word.clone(),
            Cell::Unknown => return "-".into(),
            Cell::Figure(figure) => *figure,
        };
        match kind {
            Kind::Bits => short(figure * 8.0),
            Kind::Share | Kind::Load if figure > 0.0 && figure < 0.0005 => "<0.1%".into(),
            Kind::Share | Kind::Load => format!("{:.1}%", figure * 100.0),
            Kind::Text | Kind::Packets | Kind::Lost | Kind::Count | Kind::Octets | Kind::Speed => {
                short(figure)
            }
        }
    }
}

/// Three digits and the letter of the unit: `0`, `999`, `1.23k`, `12.3M`, `123G`.
pub fn short(figure: f64) -> String {
    const LETTERS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if figure < 999.5 {
        // A rate below ten has a tenth that says something, unless it is none.
        let tenths = (figure * 10.0).round() / 10.0;
        return if figure < 9.95 && tenths.fract() != 0.0 {
            format!("{tenths:.1}")
        } else {
            format!("{figure:.0}")
        };
    }
    let mut value = figure / 1000.0;
    let mut letter = 0;
    while value >= 999.5 && letter + 1 < LETTERS.len() {
        value /= 1000.0;
        letter += 1;
    }
    let digits = match value {
        ..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", LETTERS[letter])
}

/// A table.
#[derive(Clone, Debug)]
pub struct Grid {
    /// What it is called.
    pub title: &'static str,
    /// Its columns.
    pub columns: &'static [Column],
    /// Its rows, as long as the columns.
    pub rows: Vec<Vec<Cell>>,
    /// The column that it is sorted by unless somebody wants another; `None`: as it comes.
    pub sort: Option<usize>,
    /// What to say where there are no rows.
    pub empty: &'static str,
}

/// How a person wants it sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By which column.
    pub column: usize,
    /// The other way round than is usual: figures upwards, words downwards.
    pub reversed: bool,
}

impl Grid {
    /// Sorts the rows. What is not known comes last in any case; among equals it is as the grid came.
    pub fn sorted(mut self, sort: Option<Sort>) -> Grid {
        let sort = sort.or(self.sort.map(|column| Sort {
            column,
            reversed: false,
        }));
        if let Some(Sort { column, reversed }) = sort {
            self.rows.sort_by(|a, b| match (&a[column], &b[column]) {
                (Cell::Unknown, Cell::Unknown) => Ordering::Equal,
                (Cell::Unknown, _) => Ordering::Greater,
                (_, Cell::Unknown) => Ordering::Less,
                (Cell::Figure(a), Cell::Figure(b)) if reversed => a.total_cmp(b),
                (Cell::Figure(a), Cell::Figure(b)) => b.total_cmp(a),
                (Cell::Text(a), Cell::Text(b)) if reversed => natural(b, a),
                (Cell::Text(a), Cell::Text(b)) => natural(a, b),
                (Cell::Text(_), Cell::Figure(_)) => Ordering::Less,
                (Cell::Figure(_), Cell::Text(_)) => Ordering::Greater,
            });
        }
        self
    }

    /// Keeps the rows in which some word has this in it, whatever its case.
    pub fn filtered(mut self, filter: &str) -> Grid {
        let filter = filter.to_lowercase();
        if !filter.is_empty() {
            self.rows.retain(|row| {
                row.iter().any(|cell| match cell {
                    Cell::Text(word) => word.to_lowercase().contains(&filter),
                    Cell::Figure(_) | Cell::Unknown => false,
                })
            });
        }
        self
    }

    /// Its rows as flat objects.
    pub fn json(&self) -> Vec<Value> {
        let row = |row: &Vec<Cell>| {
            let mut object = Map::new();
            object.insert("view".into(), self.title.into());
            for (cell, column) in row.iter().zip(self.columns) {
                object.insert(column.key.into(), cell.json(column.kind));
            }
            Value::Object(object)
        };
        self.rows.iter().map(row).collect()
    }
}

/// Compares words with the numbers in them as numbers: 9.0.0.0/8 before 10.0.0.0/8, eth2 before eth10.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len());
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
            let (m, n) = (digits(a), digits(b));
            let [p, q] = [&a[..m], &b[..n]].map(|number| {
                let zeros = number.iter().take_while(|c| **c == b'0').count();
                &number[zeros..]
            });
            let order = p.len().cmp(&q.len()).then(p.cmp(q));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[m..], &b[n..]);
        } else {
            let order = x.cmp(y);
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[1..], &b[1..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column {
            name: "prefix",
            key: "prefix",
            kind: Kind::Text,
            rank: 0,
        },
        Column {
            name: "bit/s",
            key: "bytes_per_second",
            kind: Kind::Bits,
            rank: 0,
        },
        Column {
            name: "share",
            key: "share",
            kind: Kind::Share,
            rank: 1,
        },
    ];

    fn grid() -> Grid {
        let row = |prefix: &str, rate: Option<f64>| {
            vec![
                Cell::Text(prefix.into()),
                Cell::figure(rate),
                Cell::Figure(0.123_456),
            ]
        };
        Grid {
            title: "prefixes",
            columns: COLUMNS,
            rows: vec![
                row("10.0.0.0/8", Some(5.0)),
                row("9.0.0.0/8", None),
                row("2001:DB8::/32", Some(7.0)),
            ],
            sort: Some(1),
            empty: "",
        }
    }

    fn names(grid: &Grid) -> Vec<String> {
        grid.rows.iter().map(|row| row[0].shown(Kind::Text)).collect()
    }

    #[test]
    fn figures_have_three_digits_and_a_letter() {
        let shown = [
            0.0, 0.04, 0.5, 7.0, 9.96, 999.4, 999.6, 1_234.0, 12_345.0, 999_499.0, 999_500.0, 1e10, 1e21,
        ];
        assert_eq!(
            shown.map(short),
            [
                "0", "0", "0.5", "7", "10", "999", "1.00k", "1.23k", "12.3k", "999k", "1.00M", "10.0G",
                "1000E"
            ]
        );
        assert_eq!(Cell::Figure(1e9 / 8.0).shown(Kind::Bits), "1.00G");
        assert_eq!(Cell::Figure(0.998).shown(Kind::Share), "99.8%");
        assert_eq!(Cell::Figure(0.0001).shown(Kind::Share), "<0.1%");
        assert_eq!(Cell::Unknown.shown(Kind::Bits), "-");
    }

    #[test]
    fn the_largest_comes_first_and_what_is_not_known_last_whichever_way() {
        assert_eq!(
            names(&grid().sorted(None)),
            ["2001:DB8::/32", "10.0.0.0/8", "9.0.0.0/8"]
        );
        let sort = |column, reversed| Some(Sort { column, reversed });
        assert_eq!(
            names(&grid().sorted(sort(1, true))),
            ["10.0.0.0/8", "2001:DB8::/32", "9.0.0.0/8"]
        );
        assert_eq!(
            names(&grid().sorted(sort(0, false))),
            ["9.0.0.0/8", "10.0.0.0/8", "2001:DB8::/32"]
        );
    }

    #[test]
    fn a_filter_is_looked_for_in_words_whatever_their_case() {
        assert_eq!(names(&grid().filtered("db8")), ["2001:DB8::/32"]);
        assert_eq!(names(&grid().filtered("/8")).len(), 2);
        assert_eq!(names(&grid().filtered("")).len(), 3);
        assert!(
            names(&grid().filtered("0.123")).is_empty(),
            "figures are no words"
        );
    }

    #[test]
    fn json_is_flat_and_without_units() {
        assert_eq!(
            grid().json()[..2],
            [
                serde_json::json!({
                    "view": "prefixes", "prefix": "10.0.0.0/8", "bytes_per_second": 5, "share": 0.1235
                }),
                serde_json::json!({
                    "view": "prefixes", "prefix": "9.0.0.0/8", "bytes_per_second": null, "share": 0.1235
                }),
            ]
        );
    }
}
