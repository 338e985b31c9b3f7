//! What is said in the end, and whether it holds.

use std::fmt;

use super::{
    Counted,
    books::Books,
    events::Done,
    measure::{IN_USE, Measure},
};

/// KiB by which a process's own memory may have grown in its last half, beside a tenth of it. What an allocator keeps of the largest bursts
/// comes early; what leaks comes all the time.
const ALLOWANCE: u64 = 4 << 10;
/// When was measured.
pub const MOMENTS: [&str; 4] = ["start", "middle", "3/4", "end"];

/// All that was seen.
pub struct Report {
    /// How long it went on.
    pub seconds: u64,
    /// What was done to the router.
    pub done: Done,
    /// At these moments, each with the routes as they were at first. The last three are of one process.
    pub measures: [Measure; MOMENTS.len()],
    /// Of the packets.
    pub books: Books,
    /// What the program counted meanwhile.
    pub counted: Counted,
    /// What sums are off by.
    pub residues: Vec<(String, i64)>,
    /// What `verify` found, where all is not well.
    pub verified: Option<String>,
}

impl Report {
    /// Whether everything holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lines().iter().all(|(_, _, holds)| holds.unwrap_or(true))
    }

    /// What does not hold, a line for each.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let lines = self.lines();
        let broken = lines.into_iter().filter(|(_, _, holds)| *holds == Some(false));
        broken
            .map(|(what, figures, _)| format!("{what}: {figures}"))
            .collect()
    }

    /// Packets that the kernel delivered: all that arrived, less what the program had forwarded and the drivers took.
    fn by_kernel(&self) -> i64 {
        let arrived: u64 = self.books.arrived.iter().sum();
        arrived as i64 - (self.counted.forwarded - self.counted.lost)
    }

    /// What, its figures, and whether it holds; some are for reading alone.
    fn lines(&self) -> Vec<(String, String, Option<bool>)> {
        let mut lines = Vec::new();
        let books = &self.books;
        let mut line = |what: &str, figures: String, holds| lines.push((what.to_string(), figures, holds));
        line("done", self.done.to_string(), None);
        let [b, c] = books.arrived;
        line(
            "packets",
            format!("{} sent, {b} arrived at b and {c} at c", books.sent),
            Some(books.sent == b + c + books.excused + books.missing),
        );
        line(
            "lost while a link was down",
            format!(
                "{} (under way when it went down, or sent before it was in use again)",
                books.excused
            ),
            None,
        );
        let named: Vec<String> = books.lost.iter().map(ToString::to_string).collect();
        line(
            "lost otherwise",
            format!("{} {}", books.missing, named.join(", "))
                .trim_end()
                .to_string(),
            Some(books.missing == 0),
        );
        let Counted {
            forwarded,
            passed,
            lost,
        } = self.counted;
        let kernel = self.by_kernel();
        line(
            "counted from a",
            format!(
                "{forwarded} forwarded, {lost} of them lost behind it; {kernel} arrived by the kernel, of {passed} passed"
            ),
            Some(kernel >= -(books.excused as i64) && kernel <= passed),
        );
        let off: Vec<String> = self
            .residues
            .iter()
            .map(|(sum, residue)| format!("{sum} {residue}"))
            .collect();
        let closed = self.residues.iter().all(|(_, residue)| *residue == 0);
        line("residues", off.join(", "), Some(closed));
        let all = &self.measures;
        let each = |figure: &dyn Fn(&Measure) -> u64| {
            let words = MOMENTS.iter().zip(all);
            let words: Vec<_> = words
                .map(|(moment, measure)| format!("{moment} {}", figure(measure)))
                .collect();
            words.join(", ")
        };
        let flat = |figure: &dyn Fn(&Measure) -> u64, by: u64| {
            let figures = all.iter().map(figure);
            let (least, most) = (figures.clone().min(), figures.max());
            Some(most <= least.map(|least| least + by))
        };
        for (index, (_, what, by)) in IN_USE.iter().enumerate() {
            let figure = |measure: &Measure| measure.in_use[index];
            line(what, each(&figure), flat(&figure, *by));
        }
        let maps = |measure: &Measure| measure.maps;
        line("memory of maps, KiB", each(&maps), flat(&maps, 0));
        let memory = |measure: &Measure| measure.memory;
        let [_, middle, late, end] = all;
        line(
            "memory of the process, KiB",
            each(&memory),
            Some(memory(end) <= memory(late) + memory(late) / 10 + ALLOWANCE),
        );
        for (what, figure) in [
            (
                "descriptors",
                &(|measure: &Measure| measure.descriptors) as &dyn Fn(&Measure) -> u64,
            ),
            ("threads", &|measure: &Measure| measure.threads),
        ] {
            line(what, each(figure), Some(figure(end) <= figure(middle)));
        }
        let verified = self
            .verified
            .as_deref()
            .map_or("every prefix is as the kernel has it", str::trim_end);
        line("verify", verified.to_string(), Some(self.verified.is_none()));
        lines
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} s", self.seconds)?;
        for (what, figures, holds) in self.lines() {
            let mark = match holds {
                Some(true) => "ok",
                Some(false) => "FAILED",
                None => "",
            };
            writeln!(f, "{mark:<7}{what:<28}{figures}")?;
        }
        Ok(())
    }
}
