//! A lab that does not outlive the code that uses it.

use std::cell::Cell;
use std::ops::Deref;

use super::Lab;

/// A lab that is taken down when the value is dropped.
#[derive(Debug)]
pub struct Guard {
    lab: Lab,
    keep: Cell<bool>,
}

impl Guard {
    pub(super) fn new(lab: Lab) -> Self {
        Self {
            lab,
            keep: Cell::new(false),
        }
    }

    /// Leaves the lab up.
    pub fn keep(&self) {
        self.keep.set(true);
    }
}

impl Deref for Guard {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.keep.get()
            && self.lab.is_up()
            && let Err(error) = self.lab.down()
        {
            eprintln!("error: the lab is not quite down: {error:#}; cargo xtask lab down tries again");
        }
    }
}
