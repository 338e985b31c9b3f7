//! Which member of a group each bucket belongs to.
//!
//! Resilient: a bucket keeps its member for as long as that member is there and not over its share, so the loss of a member
//! moves its own flows and no others (RFC 2992 calls the alternative disruption).

use forwarder_common::nexthop::BUCKETS;

/// Fills the buckets for `members` (next-hop id, weight), keeping what can be kept of `current`.
///
/// Every member with a weight gets a bucket as long as there are enough. No members: every bucket names next hop 0.
pub fn fill(current: &[u16; BUCKETS], members: &[(u16, u32)]) -> [u16; BUCKETS] {
    let shares = shares(members);
    let mut left: Vec<(u16, usize)> = shares;
    let mut buckets = [0u16; BUCKETS];
    let mut open = Vec::new();
    for (index, old) in current.iter().enumerate() {
        match left.iter_mut().find(|(id, share)| id == old && *share > 0) {
            Some((id, share)) => {
                *share -= 1;
                buckets[index] = *id;
            }
            None => open.push(index),
        }
    }
    // The rest goes round, so that neighbours in hash space differ.
    let mut turn = 0;
    for index in open {
        for _ in 0..left.len() {
            let at = turn % left.len();
            turn += 1;
            if left[at].1 > 0 {
                left[at].1 -= 1;
                buckets[index] = left[at].0;
                break;
            }
        }
    }
    buckets
}

/// Buckets for each member, by largest remainder; at least one each where there are enough.
fn shares(members: &[(u16, u32)]) -> Vec<(u16, usize)> {
    let mut merged: Vec<(u16, u64)> = Vec::new();
    for (id, weight) in members.iter().filter(|(_, weight)| *weight > 0) {
        match merged.iter_mut().find(|(known, _)| known == id) {
            Some((_, sum)) => *sum += *weight as u64,
            None => merged.push((*id, *weight as u64)),
        }
    }
    merged.truncate(BUCKETS);
    let total: u64 = merged.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return Vec::new();
    }
    let exact = |weight: u64| weight * BUCKETS as u64;
    let mut shares: Vec<(u16, usize)> = merged
        .iter()
        .map(|(id, weight)| (*id, ((exact(*weight) / total) as usize).max(1)))
        .collect();
    let mut order: Vec<usize> = (0..merged.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(exact(merged[*at].1) % total));
    let mut given: usize = shares.iter().map(|(_, share)| share).sum();
    for at in order.into_iter().cycle() {
        if given == BUCKETS {
            break;
        }
        if given < BUCKETS {
            shares[at].1 += 1;
            given += 1;
        } else if let Some((_, share)) = shares.iter_mut().max_by_key(|(_, share)| *share) {
            *share -= 1;
            given -= 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(buckets: &[u16; BUCKETS], id: u16) -> usize {
        buckets.iter().filter(|bucket| **bucket == id).count()
    }

    #[test]
    fn weights_are_kept() {
        let buckets = fill(&[0; BUCKETS], &[(7, 1), (8, 3)]);
        assert_eq!((count(&buckets, 7), count(&buckets, 8)), (31, 93));
        let many: Vec<(u16, u32)> = (1..=200).map(|id| (id, 1)).collect();
        assert!(fill(&[0; BUCKETS], &many).iter().all(|id| *id != 0));
        let skewed = fill(&[0; BUCKETS], &[(1, 256), (2, 1)]);
        assert_eq!(count(&skewed, 2), 1);
    }

    #[test]
    fn a_lost_member_moves_only_its_own_flows() {
        let before = fill(&[0; BUCKETS], &[(1, 1), (2, 1), (3, 1)]);
        let after = fill(&before, &[(1, 1), (3, 1)]);
        for (old, new) in before.iter().zip(&after) {
            assert!(*old == 2 || old == new);
            assert_ne!(*new, 2);
        }
    }

    #[test]
    fn no_members_name_nothing() {
        assert_eq!(fill(&[9; BUCKETS], &[]), [0; BUCKETS]);
    }
}
