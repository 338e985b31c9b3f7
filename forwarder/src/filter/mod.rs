//! What may not come in: which sources, and which packets by rule.
//!
//! `sources` says what class a source address is of, `source_tree` makes the tree of it that the program walks; `blackhole` which routes a neighbour wants dropped; `rule` is one rule
//! as the configuration or a FlowSpec neighbour means it, `ranges` the numbers in it and `names` what they are called;
//! `flowspec` makes rules of what neighbours announce, `order` the rules of all of them in the order in which they are asked,
//! `share` who gets room where there is too little, `fit` how many rules find some;
//! `naive` asks the rules one after the other, which is what they mean; `compile` makes tables of them that answer the same
//! for any number of rules at one price; `shadow` tells a rule that an earlier one leaves nothing for.

pub mod blackhole;
pub mod compile;
pub mod fit;
pub mod flowspec;
pub mod install;
pub mod naive;
pub mod names;
pub mod order;
pub mod ranges;
pub mod rule;
pub mod shadow;
pub mod share;
pub mod source_tree;
pub mod sources;
