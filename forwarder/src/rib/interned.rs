//! Things that many routes share, each kept once and counted.

use std::{collections::HashMap, hash::Hash};

/// Numbers for equal things, with reference counts.
pub(super) struct Interned<T> {
    list: Vec<(T, u32)>,
    index: HashMap<T, u32, foldhash::fast::RandomState>,
    free: Vec<u32>,
    /// The one asked for last: routes come in runs.
    last: u32,
    /// What stands where nothing is in use.
    nothing: T,
}

impl<T: Default> Default for Interned<T> {
    fn default() -> Interned<T> {
        Interned {
            list: Vec::new(),
            index: HashMap::default(),
            free: Vec::new(),
            last: u32::MAX,
            nothing: T::default(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    /// The number of a thing, with one reference more. `same` may know quickly that two are equal.
    pub fn hold(&mut self, thing: &T, same: impl Fn(&T, &T) -> bool) -> u32 {
        let run = self.list.get_mut(self.last as usize);
        if let Some((known, references)) = run
            && *references > 0
            && same(known, thing)
        {
            *references += 1;
            return self.last;
        }
        let number = match self.index.get(thing) {
            Some(number) => {
                self.list[*number as usize].1 += 1;
                *number
            }
            None => self.enter(thing.clone()),
        };
        self.last = number;
        number
    }

    fn enter(&mut self, thing: T) -> u32 {
        let number = match self.free.pop() {
            Some(number) => {
                self.list[number as usize] = (thing.clone(), 1);
                number
            }
            None => {
                self.list.push((thing.clone(), 1));
                self.list.len() as u32 - 1
            }
        };
        self.index.insert(thing, number);
        number
    }

    /// One reference less; answers the thing where that was the last.
    pub fn release(&mut self, number: u32) -> Option<T> {
        let (thing, references) = &mut self.list[number as usize];
        *references -= 1;
        if *references > 0 {
            return None;
        }
        let thing = std::mem::replace(thing, self.nothing.clone());
        self.index.remove(&thing);
        self.free.push(number);
        Some(thing)
    }

    /// The thing of a number in use.
    pub fn get(&self, number: u32) -> &T {
        &self.list[number as usize].0
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}
