//! Things that many routes share, each kept once and counted.

use std::{collections::HashMap, hash::Hash};

/// A number of a thing: 24 bits, so that a route takes sixteen octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number([u8; 3]);

impl Number {
    /// Of what was held first.
    pub const FIRST: Number = Number([0; 3]);

    fn new(number: usize) -> Option<Number> {
        match u32::try_from(number).ok()?.to_le_bytes() {
            [a, b, c, 0] => Some(Number([a, b, c])),
            _ => None,
        }
    }

    pub const fn index(self) -> usize {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0]) as usize
    }
}

/// Numbers for equal things, each with a value that follows from it, and reference counts.
pub(super) struct Interned<K, V = ()> {
    list: Vec<Held<K, V>>,
    index: HashMap<K, Number, foldhash::fast::RandomState>,
    free: Vec<Number>,
    /// Those asked for lately, by where their asker remembers them: a power of two.
    recent: Vec<Number>,
    /// What stands where nothing is in use.
    nothing: K,
}

struct Held<K, V> {
    key: K,
    value: V,
    references: u32,
}

impl<K: Clone + Eq + Hash, V> Interned<K, V> {
    /// None yet. Of those asked for lately it remembers about so many.
    pub fn new(nothing: K, recent: usize) -> Interned<K, V> {
        Interned {
            list: Vec::new(),
            index: HashMap::default(),
            free: Vec::new(),
            recent: vec![Number([0xff; 3]); recent.next_power_of_two()],
            nothing,
        }
    }

    /// The number of a thing, with one reference more; `None` where there are too many. `place` is where it may have been
    /// remembered, `same` knows it, and only where it was not, `key` and `value` make it.
    pub fn hold(
        &mut self,
        place: usize,
        same: impl Fn(&K) -> bool,
        key: impl FnOnce() -> K,
        value: impl FnOnce(&K) -> V,
    ) -> Option<Number> {
        let place = place & (self.recent.len() - 1);
        let recent = self.recent[place];
        if let Some(held) = self.list.get_mut(recent.index())
            && held.references > 0
            && same(&held.key)
        {
            held.references += 1;
            return Some(recent);
        }
        let key = key();
        let number = match self.index.get(&key) {
            Some(number) => {
                self.list[number.index()].references += 1;
                *number
            }
            None => {
                let value = value(&key);
                self.enter(key, value)?
            }
        };
        self.recent[place] = number;
        Some(number)
    }

    /// One reference more to what is in use.
    pub fn hold_again(&mut self, number: Number) {
        self.list[number.index()].references += 1;
    }

    fn enter(&mut self, key: K, value: V) -> Option<Number> {
        let held = Held {
            key: key.clone(),
            value,
            references: 1,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.list[number.index()] = held;
                number
            }
            None => {
                let number = Number::new(self.list.len())?;
                self.list.push(held);
                number
            }
        };
        self.index.insert(key, number);
        Some(number)
    }

    /// One reference less; answers the thing where that was the last.
    pub fn release(&mut self, number: Number) -> Option<K> {
        let held = &mut self.list[number.index()];
        held.references -= 1;
        if held.references > 0 {
            return None;
        }
        let key = std::mem::replace(&mut held.key, self.nothing.clone());
        self.index.remove(&key);
        self.free.push(number);
        Some(key)
    }

    /// The number of a thing in use.
    pub fn find(&self, key: &K) -> Option<Number> {
        self.index.get(key).copied()
    }

    /// The thing of a number in use.
    pub fn get(&self, number: Number) -> &K {
        &self.list[number.index()].key
    }

    /// Its value.
    pub fn value(&self, number: Number) -> &V {
        &self.list[number.index()].value
    }

    /// Its value, to be changed.
    pub fn value_mut(&mut self, number: Number) -> &mut V {
        &mut self.list[number.index()].value
    }

    /// Whether a number is in use.
    pub fn is_held(&self, number: Number) -> bool {
        self.list
            .get(number.index())
            .is_some_and(|held| held.references > 0)
    }

    /// Every thing in use, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, Number)> {
        self.index.iter().map(|(key, number)| (key, *number))
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_kept_once_and_as_long_as_it_is_used() {
        let mut all: Interned<String, usize> = Interned::new(String::new(), 2);
        let mut hold = |name: &str, place| {
            let same = |known: &String| known == name;
            all.hold(place, same, || name.to_owned(), String::len).unwrap()
        };
        let one = hold("one", 0);
        assert_eq!((hold("one", 0), hold("one", 1)), (one, one));
        let three = hold("three", 0);
        assert_ne!(three, one);
        assert_eq!(
            (all.get(three).as_str(), *all.value(three), all.len()),
            ("three", 5, 2)
        );
        assert_eq!((all.release(one), all.release(one)), (None, None));
        assert_eq!(all.release(one).as_deref(), Some("one"));
        assert!(!all.is_held(one) && all.find(&"one".into()).is_none());
        // What was remembered of it is not taken for what is there now.
        let two = all
            .hold(1, |known| known == "two", || "two".into(), String::len)
            .unwrap();
        assert_eq!((two, all.get(two).as_str()), (one, "two"));
    }

    #[test]
    fn a_number_has_24_bits() {
        assert_eq!(Number::new(0xff_fffe).map(Number::index), Some(0xff_fffe));
        assert_eq!(Number::new(1 << 24), None);
    }
}
