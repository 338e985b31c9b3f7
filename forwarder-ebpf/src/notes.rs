//! What a traced packet leaves behind: the step it came to, and what was found there.
//!
//! The object holds the program twice, from the same source: once with notes, for `forwarder trace`, once without a trace of
//! them.

use forwarder_common::trace::{Stage, Trace};

use crate::maps;

/// Whether notes are taken.
pub trait Notes {
    /// Whether they are.
    const TAKEN: bool;

    /// Notes something.
    fn note(note: impl FnOnce(&mut Trace));

    /// Notes that the packet got through a stage.
    #[inline(always)]
    fn stage(stage: Stage) {
        Self::note(|t| t.stage = stage as u32);
    }
}

/// The live program takes none.
pub enum Silent {}

impl Notes for Silent {
    const TAKEN: bool = false;

    #[inline(always)]
    fn note(_: impl FnOnce(&mut Trace)) {}
}

/// A tracing instance.
pub enum Traced {}

impl Notes for Traced {
    const TAKEN: bool = true;

    #[inline(always)]
    fn note(note: impl FnOnce(&mut Trace)) {
        if let Some(trace) = maps::TRACE.get_ptr_mut(0) {
            // SAFETY: a tracing instance runs one packet at a time; its map is private to it.
            note(unsafe { &mut *trace });
        }
    }
}
