//! What the forwarding table says, compared with what it should say.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use forwarder::dataplane::Tables;
use forwarder_common::fib::GROUP_INDIRECT;

use crate::model::Model;
use crate::router::{Router, Way};
use crate::table::{Family, Prefix, Table, mask};

/// Group and slot of an address, by the program's own walk.
///
/// # Errors
/// No route covers it.
pub fn find(ours: &Tables, address: IpAddr) -> Result<(u32, u32)> {
    let leaf = ours
        .lookup(address)
        .with_context(|| format!("{address}: the walk does not end"))?;
    ensure!(!leaf.is_none(), "{address}: no route");
    let group = match leaf.group() {
        GROUP_INDIRECT => ours.slot_group(leaf.slot()).load(Ordering::Acquire),
        group => group,
    };
    Ok((group, leaf.slot()))
}

/// Checks that a slot counts for a prefix.
///
/// # Errors
/// It counts for another.
pub fn counts_for(ours: &Tables, family: Family, prefix: &Prefix, slot: u32) -> Result<()> {
    let entry = ours.slot_directory.get(slot as usize);
    let network = match family {
        Family::V4 => u128::from_be_bytes(entry.address) & mask(32),
        Family::V6 => u128::from_be_bytes(entry.address),
    };
    ensure!(
        (entry.family, entry.length, network) == (family.number(), prefix.length, prefix.network),
        "slot {slot} is of another prefix: {}/{}",
        family.address(network),
        entry.length
    );
    Ok(())
}

/// Checks that a group of one member leads a certain way.
///
/// # Errors
/// It leads elsewhere.
pub fn leads(ours: &Tables, group: u32, way: &Way) -> Result<()> {
    let words = ours.groups.get(group as usize);
    let hop = ours.nexthops.get(words.buckets[0].into());
    ensure!(
        (words.width, hop.state(), hop.ifindex, hop.destination_mac())
            == (1, 0, way.ifindex, way.destination),
        "group {group}, {} buckets wide, leads elsewhere: {hop:?}",
        words.width
    );
    Ok(())
}

/// The first address of every prefix of a table, and the prefix that must answer for it: its own, or a longer one that
/// begins there too.
pub struct Firsts<'a> {
    table: &'a Table,
    owners: Vec<u32>,
}

impl<'a> Firsts<'a> {
    /// Asks the model.
    pub fn new(table: &'a Table) -> Firsts<'a> {
        let model = Model::new(&table.prefixes);
        let own = |(at, prefix): (usize, &Prefix)| model.lookup(prefix.network).unwrap_or(at as u32);
        Firsts {
            table,
            owners: table.prefixes.iter().enumerate().map(own).collect(),
        }
    }

    /// Compares all with the table; `right` judges the group that a prefix has.
    ///
    /// # Errors
    /// The first wrong answer.
    pub fn check(&self, ours: &Tables, right: impl Fn(&Prefix, u32) -> Result<()>) -> Result<()> {
        for (first, owner) in self.table.prefixes.iter().zip(&self.owners) {
            let (family, owner) = (self.table.family, self.table.prefixes[*owner as usize]);
            let address = family.address(first.network);
            let (group, slot) = find(ours, address)?;
            counts_for(ours, family, &owner, slot)
                .and_then(|()| right(&owner, group))
                .with_context(|| {
                    let network = family.address(owner.network);
                    format!(
                        "wrong answer for {address}, whose longest prefix is {network}/{}",
                        owner.length
                    )
                })?;
        }
        Ok(())
    }

    /// Compares all with where the router's routes lead.
    ///
    /// # Errors
    /// The first wrong answer.
    pub fn forward(&self, ours: &Tables, router: &Router) -> Result<()> {
        self.check(ours, |prefix, group| {
            leads(ours, group, &router.way(self.table.family, prefix))
        })
    }
}
