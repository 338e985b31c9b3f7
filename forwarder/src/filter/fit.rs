//! How many of a list of rules fit the program's tables, where not all of them do.

use super::compile::CompileError;

/// As many of the first rules as fit.
pub struct Fit<T> {
    /// How many.
    pub count: usize,
    /// What was made of them; `None` where no number of them was tried that fits.
    pub made: Option<T>,
    /// Why more do not.
    pub why: CompileError,
}

/// Looks for the most of `all` rules that `compile` takes, to `grain` of them. All of them do not fit, and `why` says why. Tables of fewer
/// rules are never larger, so it is found by halves.
pub fn most<T>(
    all: usize,
    grain: usize,
    why: CompileError,
    compile: impl Fn(usize) -> Result<T, CompileError>,
) -> Fit<T> {
    let mut fit = Fit {
        count: 0,
        made: None,
        why,
    };
    let mut not = all;
    while not - fit.count > grain {
        let middle = fit.count.midpoint(not);
        match compile(middle) {
            Ok(made) => (fit.count, fit.made) = (middle, Some(made)),
            Err(why) => (not, fit.why) = (middle, why),
        }
    }
    fit
}
