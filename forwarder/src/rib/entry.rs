//! What a prefix has of something: mostly one.

use ipnet::IpNet;

use crate::{fib::prefixes::Prefixes, with_family};

/// One thing, or several. Where the thing takes sixteen octets and leaves a value unused, this takes no more.
pub(super) enum Entry<T> {
    One(T),
    #[expect(
        clippy::box_collection,
        reason = "a thin pointer keeps the common entry at 16 octets"
    )]
    Many(Box<Vec<T>>),
}

impl<T: Copy> Entry<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            Entry::One(one) => std::slice::from_ref(one),
            Entry::Many(many) => many,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Entry::One(one) => std::slice::from_mut(one),
            Entry::Many(many) => many,
        }
    }

    /// The thing, where there is only one.
    pub fn sole(&self) -> Option<&T> {
        match self {
            Entry::One(one) => Some(one),
            Entry::Many(_) => None,
        }
    }

    /// Puts one in at a place, before what stands there; at the end where nothing does.
    pub fn insert(&mut self, at: usize, thing: T) {
        match self {
            Entry::One(one) => {
                let both = if at == 0 {
                    vec![thing, *one]
                } else {
                    vec![*one, thing]
                };
                *self = Entry::Many(Box::new(both));
            }
            Entry::Many(many) => many.insert(at.min(many.len()), thing),
        }
    }

    /// Puts one at the end.
    pub fn add(&mut self, thing: T) {
        self.insert(usize::MAX, thing);
    }

    /// Takes the one at a place out; answers whether anything is left.
    pub fn remove(&mut self, at: usize) -> bool {
        match self {
            Entry::One(_) => at > 0,
            Entry::Many(many) => {
                if at < many.len() {
                    many.remove(at);
                }
                self.settle()
            }
        }
    }

    /// Keeps what `keep` says; answers whether anything is left.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> bool {
        match self {
            Entry::One(one) => keep(one),
            Entry::Many(many) => {
                many.retain(&mut keep);
                self.settle()
            }
        }
    }

    /// Something of several was taken out: one that is left stands alone. Answers whether any is.
    fn settle(&mut self) -> bool {
        match self.as_slice() {
            [] => return false,
            [one] => *self = Entry::One(*one),
            _ => {}
        }
        true
    }
}

/// What a prefix of either family has.
pub(super) fn of<'a, T: Copy>(
    v4: &'a Prefixes<u32, Entry<T>>,
    v6: &'a Prefixes<u128, Entry<T>>,
    prefix: IpNet,
) -> &'a [T] {
    with_family!(
        prefix,
        |address, length| v4.get(address, length).map(Entry::as_slice),
        |address, length| v6.get(address, length).map(Entry::as_slice)
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_keeps_its_order_and_one_stands_alone() {
        let mut entry = Entry::One(2);
        entry.add(3);
        entry.insert(0, 1);
        assert_eq!((entry.as_slice(), entry.sole()), (&[1, 2, 3][..], None));
        assert!(entry.retain(|thing| *thing != 2));
        assert_eq!(entry.as_slice(), [1, 3]);
        assert!(entry.retain(|thing| *thing == 3));
        assert_eq!(entry.sole(), Some(&3));
        entry.insert(1, 4);
        assert_eq!(entry.as_slice(), [3, 4]);
        assert!(!entry.retain(|_| false));
    }

    #[test]
    fn what_is_taken_out_by_its_place_leaves_the_others_in_their_order() {
        let mut entry = Entry::One(1);
        entry.add(2);
        entry.add(3);
        assert!(entry.remove(3), "there is none at this place");
        assert!(entry.remove(1));
        assert_eq!((entry.as_slice(), entry.sole()), (&[1, 3][..], None));
        assert!(entry.remove(0));
        assert_eq!(entry.sole(), Some(&3));
        assert!(entry.remove(1), "there is none at this place");
        assert!(!entry.remove(0));
    }
}
