//! Pictures as SVG, written by hand: a few lines, rectangles and words need no library.

mod bars;
mod lines;

pub use bars::{Bar, Chart, Group};
pub use lines::{Line, Lines, Mark, Panel, rate};

use std::fmt::Write;

const WIDTH: f64 = 960.0;
/// Told apart by most colour-blind readers (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#56b4e9", "#cc79a7", "#f0e442", "#999999"];
/// Ours.
const OURS: &str = "#009e73";

/// What every picture has at its beginning: how one that may be replaced is known.
pub const MARK: &str = "<!-- drawn by forwarder report -->";

/// A document with that in it.
fn document(height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         {MARK}\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn text(out: &mut String, (x, y): (f64, f64), attributes: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>",
        escaped(words)
    );
}

/// Words as they may stand in a document: names come from configurations and from other people's networks.
fn escaped(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            // XML 1.0 has no place for these.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
