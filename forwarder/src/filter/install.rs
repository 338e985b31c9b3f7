//! Puts compiled rules in force: into the half that is not, then one store.

use std::{collections::HashSet, mem::offset_of, sync::atomic::Ordering};

use forwarder_common::{
    Plain,
    rules::{Common, RULES, RuleSet, Set4, Set6, Verdict},
};

use crate::dataplane::{Region, Tables};

/// Where the word stands that says which half is in force: `Settings::active_rules`, and zero above it.
const ACTIVE: usize = 24;

/// Writes both sets into the half not in force and puts it in force with one store. The half it replaces must have been out of
/// force for a grace period.
pub fn install(tables: &Tables, v4: &Set4, v6: &Set6) {
    let settings = tables.settings.word(0, ACTIVE);
    let next = (settings.load(Ordering::Acquire) & 1) ^ 1;
    let base = next as usize * size_of::<RuleSet>();
    copy(&tables.rules, base, v4);
    copy(&tables.rules, base + size_of::<Set4>(), v6);
    settings.store(next, Ordering::Release);
}

/// The slots that the set in force counts in.
pub fn slots_in_force(tables: &Tables) -> HashSet<u32> {
    let active = tables.settings.word(0, ACTIVE).load(Ordering::Acquire) & 1;
    let base = active as usize * size_of::<RuleSet>();
    let families = [base, base + size_of::<Set4>()];
    // Class 0 holds every rule that there is.
    let there = |family: usize, rule: usize| {
        let word = family + offset_of!(Common, vectors) + rule / 64 * size_of::<u64>();
        tables.rules.u64(word).load(Ordering::Acquire) >> (rule % 64) & 1 == 1
    };
    let slot = |family: usize, rule: usize| {
        let verdict = family + offset_of!(Common, verdicts) + rule * size_of::<Verdict>();
        tables.rules.u32(verdict).load(Ordering::Acquire)
    };
    let rules = families
        .into_iter()
        .flat_map(|family| (0..RULES).map(move |rule| (family, rule)));
    rules
        .filter(|(family, rule)| there(*family, *rule))
        .map(|(family, rule)| slot(family, rule))
        .collect()
}

fn copy<T: Plain>(region: &Region, base: usize, set: &T) {
    // SAFETY: plain: integers without padding, read as words; sizes are multiples of eight (asserted below).
    let words =
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(set).cast::<u64>(), size_of::<T>() / 8) };
    for (index, word) in words.iter().enumerate() {
        region.u64(base + index * 8).store(*word, Ordering::Release);
    }
}

const _: () = assert!(size_of::<Set4>().is_multiple_of(8) && size_of::<Set6>().is_multiple_of(8));
