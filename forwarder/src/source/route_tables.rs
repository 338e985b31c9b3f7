//! Which of the kernel's tables are mirrored, and in which order it asks them.
//!
//! A policy rule without a selector (`ip rule add lookup 100`) asks a table for every packet; the first table that has any
//! route for the destination answers, however short its prefix, and the tables behind are not asked. The rule of table
//! local comes before all others.

use std::fmt;

/// `RT_TABLE_LOCAL`: routes to ourselves.
pub const TABLE_LOCAL: u32 = 255;
/// `RT_TABLE_MAIN`: routes that name no table.
pub const TABLE_MAIN: u32 = 254;

/// Tables beside local that may be mirrored.
pub const MOST: usize = 16;

/// Tables in the order in which they are asked, local first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTables(Vec<u32>);

impl Default for RouteTables {
    fn default() -> Self {
        Self::behind_local(&[TABLE_MAIN])
    }
}

impl RouteTables {
    /// Local, then these, as far as there are no more than [`MOST`].
    pub fn behind_local(others: &[u32]) -> Self {
        let mut tables = vec![TABLE_LOCAL];
        for table in others.iter().take(MOST) {
            if !tables.contains(table) {
                tables.push(*table);
            }
        }
        Self(tables)
    }

    /// Its place in the order, local being 0; `None` for a table that is not mirrored.
    pub fn rank(&self, table: u32) -> Option<u8> {
        self.0.iter().position(|known| *known == table).map(|at| at as u8)
    }

    /// The table at a place in the order.
    pub fn at(&self, rank: u8) -> Option<u32> {
        self.0.get(usize::from(rank)).copied()
    }

    /// The place of the last.
    pub fn last(&self) -> u8 {
        (self.0.len() - 1) as u8
    }

    /// Every table, in the order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }
}

/// As in `ip route show table`: local, main, or the number.
pub fn table_name(table: u32) -> String {
    match table {
        TABLE_LOCAL => "local".into(),
        TABLE_MAIN => "main".into(),
        number => number.to_string(),
    }
}

impl fmt::Display for RouteTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(table_name).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_is_asked_first_and_a_table_once() {
        let tables = RouteTables::behind_local(&[100, TABLE_MAIN, 100, TABLE_LOCAL]);
        assert_eq!(tables.to_string(), "local, 100, main");
        assert_eq!(tables.rank(TABLE_MAIN), Some(2));
        assert_eq!(
            (tables.rank(7), tables.at(1), tables.last()),
            (None, Some(100), 2)
        );
        assert_eq!(RouteTables::default().to_string(), "local, main");
    }
}
