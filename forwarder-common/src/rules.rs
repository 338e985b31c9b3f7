//! Filter rules as the program reads them: for any number of rules at one price.
//!
//! A packet is asked about in several *dimensions*: destination, source, protocol, ports and so on. In each of them a table
//! says which *class* its value belongs to, and a class is a bit vector: bit n is set where rule n has nothing against that
//! value. The AND of the vectors has a bit for each rule that matches, and the first one wins. A summary of 32 bits for
//! each vector, one for every 64 rules, is ANDed before, so that only words are read that may have something in them.
//! (T. V. Lakshman and D. Stiliadis, SIGCOMM 1998; the summaries: F. Baboescu and G. Varghese, SIGCOMM 2001.)
//!
//! Before all that stands a bitmap of destinations: most packets concern no rule, and one load tells.
//!
//! There are two sets; a change is compiled whole into the one not in force and takes effect by one store
//! ([`crate::settings::Settings::active_rules`]), so that a packet meets the old set or the new one.

use core::mem::offset_of;

use crate::{counters::Counter, plain};

/// Rules of one family that are in force at most.
pub const RULES: usize = 2_048;
/// Words of a bit vector.
pub const WORDS: usize = RULES / 64;
/// Classes of all dimensions of a family together; a power of two.
pub const CLASSES: usize = 16_384;
/// Rules that have counters at most: of both families, and those being replaced.
pub const SLOTS: usize = 8_192;
/// Bits of the bitmap of destinations.
pub const CONCERNS: usize = 65_536;
/// IPv4 blocks of 256 entries, for destinations and sources together; a power of two.
pub const BLOCKS: usize = 4_096;
/// Stretches of IPv6 addresses, for destinations and for sources; a power of two.
pub const STRETCHES: usize = 4_096;
/// Blocks of 1,024 flow labels; a power of two.
pub const LABEL_BLOCKS: usize = 64;
/// In a table of classes: the rest is the number of a block.
pub const BLOCK: u16 = 0x8000;
/// Rules that let the next ones be asked too, in force at most: what bounds the program's loop.
pub const PROCEEDING: usize = 32;

/// Entry for packets that show no port.
pub const NO_PORT: u32 = 65_536;
/// Entry for packets that are no ICMP.
pub const NO_ICMP: u32 = 256;
/// Entry for packets that show no TCP flags.
pub const NO_FLAGS: u32 = 4_096;
/// Entry for packets whose protocol cannot be found.
pub const NO_PROTOCOL: u32 = 256;

/// Where a condition's class is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Destination.
    Destination = 0,
    /// Source.
    Source = 1,
    /// Protocol.
    Protocol = 2,
    /// Source port.
    SourcePort = 3,
    /// Destination port.
    DestinationPort = 4,
    /// Source or destination port: two classes, of which either is enough.
    Port = 5,
    /// ICMP type.
    IcmpType = 6,
    /// ICMP code.
    IcmpCode = 7,
    /// TCP flags.
    TcpFlags = 8,
    /// Length.
    Length = 9,
    /// DSCP.
    Dscp = 10,
    /// Fragment.
    Fragment = 11,
    /// Port number of the interface it came in on.
    Interface = 12,
    /// IPv6 flow label.
    FlowLabel = 13,
}

/// Numbers a packet is asked about, each an index into its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Key {
    /// Protocol, or [`NO_PROTOCOL`].
    pub protocol: u32,
    /// Source port, or [`NO_PORT`].
    pub source_port: u32,
    /// Destination port, or [`NO_PORT`].
    pub destination_port: u32,
    /// ICMP type, or [`NO_ICMP`].
    pub icmp_type: u32,
    /// ICMP code, or [`NO_ICMP`].
    pub icmp_code: u32,
    /// TCP flags, or [`NO_FLAGS`].
    pub tcp_flags: u32,
    /// Octets of the packet.
    pub length: u32,
    /// DSCP.
    pub dscp: u32,
    /// Fragment bits (RFC 8955 4.2.2.12).
    pub fragment: u32,
    /// Number of the interface's counters.
    pub interface: u32,
    /// IPv6 flow label.
    pub label: u32,
}

/// The later rules are asked too.
pub const PROCEED: u8 = 1;
/// Packets get [`Verdict::dscp`].
pub const MARK: u8 = 2;
/// The rate counts packets, not octets.
pub const PACKETS: u8 = 4;
/// More than the rate is dropped.
pub const LIMIT: u8 = 8;

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Verdict {
    /// Where it is counted.
    pub slot: u32,
    /// [`PROCEED`], [`MARK`], [`PACKETS`], [`LIMIT`].
    pub flags: u8,
    /// [`crate::reason::Reason`] to drop with; 0: it does not drop, or with `LIMIT` what is too much.
    pub reason: u8,
    /// DSCP to write.
    pub dscp: u8,
    /// Of `cost`: bits behind the point.
    pub shift: u8,
    /// Time that a unit takes, in [`TICKS`](crate::limit::TICKS).
    pub cost: u64,
    /// Time's worth that may come at once, in [`TICKS`](crate::limit::TICKS).
    pub burst: u64,
    /// Time's worth that a CPU takes from the common store at once, in [`TICKS`](crate::limit::TICKS).
    pub quantum: u64,
}
plain!(Verdict, 32);

/// A rule's counters on one CPU, and what that CPU may still let through: a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct RuleState {
    /// What matched.
    pub matched: Counter,
    /// What of it was dropped.
    pub dropped: Counter,
    /// Time's worth left of what was taken from the common store; signed.
    pub credit: u64,
    /// When the store has something again.
    pub until: u64,
    /// Zero.
    pub reserved: [u64; 2],
}
plain!(RuleState, 64);

/// Which rule a slot counts for, so that a controller that starts again goes on counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct RuleEntry {
    /// Digest of the rule; zero: free.
    pub digest: [u64; 2],
    /// Matched before it was this rule's.
    pub matched: Counter,
    /// Dropped before it was this rule's.
    pub dropped: Counter,
}
plain!(RuleEntry, 64);

/// What both families have.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Common {
    /// The bit vector of each class.
    pub vectors: [[u64; WORDS]; CLASSES],
    /// Each rule.
    pub verdicts: [Verdict; RULES],
    /// Destinations that some rule concerns: [`concern4`], [`concern6`].
    pub concerns: [u64; CONCERNS / 64],
    /// Which words of a vector are not zero.
    pub summaries: [u32; CLASSES],
    /// Classes by source port.
    pub source_ports: [u16; 65_540],
    /// By destination port.
    pub destination_ports: [u16; 65_540],
    /// By either port.
    pub ports: [u16; 65_540],
    /// By length.
    pub lengths: [u16; 65_540],
    /// By TCP flags.
    pub tcp_flags: [u16; 4_100],
    /// By ICMP type.
    pub icmp_types: [u16; 260],
    /// By ICMP code.
    pub icmp_codes: [u16; 260],
    /// By protocol.
    pub protocols: [u16; 260],
    /// By DSCP.
    pub dscps: [u16; 64],
    /// By fragment bits.
    pub fragments: [u16; 16],
    /// By port number of the interface.
    pub interfaces: [u16; 1_028],
}
// SAFETY: repr(C), integers only; the sizes add up without padding.
unsafe impl crate::Plain for Common {}
const _: () = assert!(
    size_of::<Common>()
        == CLASSES * (WORDS * 8 + 4)
            + RULES * 32
            + CONCERNS / 8
            + 2 * (4 * 65_540 + 4_100 + 3 * 260 + 64 + 16 + 1_028)
);

/// IPv4 rules.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Set4 {
    /// What both families have.
    pub common: Common,
    /// By the first two octets of destination and source: a class, or [`BLOCK`] and the block of the third octet.
    pub roots: [[u16; 65_536]; 2],
    /// By third octet and by fourth.
    pub blocks: [[u16; 256]; BLOCKS],
}

/// IPv6 rules.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Set6 {
    /// What both families have.
    pub common: Common,
    /// Where stretches of destinations and sources begin, upper halves; unused ones are all ones.
    pub high: [[u64; STRETCHES]; 2],
    /// Lower halves.
    pub low: [[u64; STRETCHES]; 2],
    /// Their classes.
    pub classes: [[u16; STRETCHES]; 2],
    /// Flow labels by their first ten bits: a class, or [`BLOCK`] and a block.
    pub label_root: [u16; 1_024],
    /// By the last ten.
    pub label_blocks: [[u16; 1_024]; LABEL_BLOCKS],
}

/// Rules of both families.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RuleSet {
    /// IPv4.
    pub v4: Set4,
    /// IPv6.
    pub v6: Set6,
}

impl RuleSet {
    /// From what both families have of IPv4 to that of IPv6, octets.
    pub const STEP: usize = offset_of!(RuleSet, v6) + offset_of!(Set6, common)
        - offset_of!(RuleSet, v4)
        - offset_of!(Set4, common);
}

// SAFETY: repr(C), integers only; the sizes add up without padding.
unsafe impl crate::Plain for Set4 {}
const _: () = assert!(size_of::<Set4>() == size_of::<Common>() + 2 * 65_536 * 2 + BLOCKS * 512);
// SAFETY: as above.
unsafe impl crate::Plain for Set6 {}
const _: () =
    assert!(size_of::<Set6>() == size_of::<Common>() + 2 * STRETCHES * 18 + 2 * 1_024 * (1 + LABEL_BLOCKS));

/// Bit of an IPv4 destination, host order, in the bitmap: by its /24.
#[inline(always)]
pub const fn concern4(destination: u32) -> usize {
    (destination >> 8) as usize & (CONCERNS - 1)
}

/// Bit of an IPv6 destination: by its /48. `high` is the upper half of the address.
#[inline(always)]
pub const fn concern6(high: u64) -> usize {
    (high >> 16 ^ high >> 32) as usize & (CONCERNS - 1)
}

/// Whether that bit is set.
#[inline(always)]
pub fn concerns(common: &Common, bit: usize) -> bool {
    match common.concerns.get(bit / 64) {
        Some(word) => word >> (bit % 64) & 1 != 0,
        None => false,
    }
}

/// The class of an IPv4 address, host order; `which` is 0 for destinations and 1 for sources.
#[inline(always)]
pub fn class4(set: &Set4, which: usize, address: u32) -> u16 {
    let mut entry = set.roots[which][(address >> 16) as usize & 0xffff];
    if entry & BLOCK != 0 {
        entry = block4(set, entry, address >> 8);
        if entry & BLOCK != 0 {
            entry = block4(set, entry, address);
        }
    }
    entry
}

#[inline(always)]
fn block4(set: &Set4, entry: u16, octet: u32) -> u16 {
    set.blocks[entry as usize & (BLOCKS - 1)][octet as usize & 0xff]
}

/// 1 where `a < b + borrow`, which is 0 or 1: what a subtraction of two words borrows. Without a branch, which would be the
/// wrong one half of the time and two ways for the verifier (H. S. Warren, Hacker's Delight, 2-13).
#[inline(always)]
const fn below(a: u64, b: u64, borrow: u64) -> u64 {
    ((!a & b) | ((!a | b) & a.wrapping_sub(b).wrapping_sub(borrow))) >> 63
}

/// The class of an IPv6 address by its halves; `which` as for [`class4`]. `guard` answers the same number and keeps the compiler
/// from knowing it, or it makes a branch after all.
#[inline(always)]
pub fn class6(set: &Set6, which: usize, high: u64, low: u64, guard: impl Fn(u64) -> u64) -> u16 {
    let mut at = 0usize;
    let mut step = STRETCHES / 2;
    while step > 0 {
        let try_at = (at + step) & (STRETCHES - 1);
        let (first, second) = (set.high[which][try_at], set.low[which][try_at]);
        // The address is before the stretch's beginning.
        let before = guard(below(high, first, guard(below(low, second, 0))));
        at += step & before.wrapping_sub(1) as usize;
        step /= 2;
    }
    set.classes[which][at & (STRETCHES - 1)]
}

/// The class of a flow label.
#[inline(always)]
pub fn class_of_label(set: &Set6, label: u32) -> u16 {
    let entry = set.label_root[(label >> 10) as usize & 1_023];
    if entry & BLOCK == 0 {
        return entry;
    }
    set.label_blocks[entry as usize & (LABEL_BLOCKS - 1)][label as usize & 1_023]
}

/// Most terms of the AND: a class for each [`Dimension`], and the second of the two ports.
pub const TERMS: usize = 15;
/// Where the second class of [`Dimension::Port`] stands.
pub const OTHER_PORT: usize = 14;

/// What is known of the packet that a CPU is asking the rules about.
///
/// In a map and not on the program's stack, for the verifier's sake: what was found on different ways through a packet or the
/// tables is then one thing to it, which it would otherwise follow in each combination to the program's end; and the
/// functions into which the search is cut, each of which it looks at once, hand it to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Asked {
    /// The class in each [`Dimension`], and in [`OTHER_PORT`].
    pub classes: [u16; 16],
    /// Of the word of the AND that is looked at: what was not met yet.
    pub bits: u64,
    /// Words that are not looked at yet, as [`summary`] has them.
    pub left: u32,
    /// Number of the first rule in the word that is looked at.
    pub base: u32,
    /// How the packet is to be marked.
    pub marking: u32,
    /// One more than the number of the last rule met; 0: none.
    pub met: u32,
    /// Its slot.
    pub slot: u32,
    /// Numbers it is asked about.
    pub key: Key,
    /// Zero.
    pub reserved: [u32; 6],
}
plain!(Asked, 128);
const _: () = assert!(TERMS <= 16);

impl Asked {
    /// Notes the class in a dimension.
    #[inline(always)]
    pub fn set(&mut self, term: usize, class: u16) {
        self.classes[term & 15] = class;
    }

    #[inline(always)]
    fn class(&self, term: usize) -> usize {
        self.classes[term & 15] as usize & (CLASSES - 1)
    }

    /// Finds the classes of everything but addresses and flow label.
    ///
    /// `guard` answers the same number and keeps the compiler from knowing it: where it can prove that an index is inside its
    /// table, it leaves out the comparison that the verifier of Linux 6.1 needs.
    #[inline(always)]
    pub fn classify(&mut self, common: &Common, guard: impl Fn(u32) -> u32) {
        macro_rules! find {
            ($($term:expr => $table:ident[$number:ident];)+) => {
                $(self.set($term as usize, match common.$table.get(guard(self.key.$number) as usize) {
                    Some(class) => *class,
                    None => 0,
                });)+
            };
        }
        find! {
            Dimension::Protocol => protocols[protocol];
            Dimension::SourcePort => source_ports[source_port];
            Dimension::DestinationPort => destination_ports[destination_port];
            Dimension::Port => ports[source_port];
            OTHER_PORT => ports[destination_port];
            Dimension::IcmpType => icmp_types[icmp_type];
            Dimension::IcmpCode => icmp_codes[icmp_code];
            Dimension::TcpFlags => tcp_flags[tcp_flags];
            Dimension::Length => lengths[length];
            Dimension::Dscp => dscps[dscp];
            Dimension::Fragment => fragments[fragment];
            Dimension::Interface => interfaces[interface];
        }
    }

    /// Which words of the AND may have something in them.
    #[inline(always)]
    pub fn summary(&self, common: &Common) -> u32 {
        let of = |term| common.summaries[self.class(term)];
        let mut summary = of(Dimension::Port as usize) | of(OTHER_PORT);
        let mut term = 0;
        while term < OTHER_PORT {
            if term != Dimension::Port as usize {
                summary &= of(term);
            }
            term += 1;
        }
        summary
    }

    /// A word of the AND.
    #[inline(always)]
    pub fn word(&self, common: &Common, number: u32) -> u64 {
        let number = number as usize & (WORDS - 1);
        let of = |term| common.vectors[self.class(term)][number];
        let mut word = of(Dimension::Port as usize) | of(OTHER_PORT);
        let mut term = 0;
        while term < OTHER_PORT {
            if term != Dimension::Port as usize {
                word &= of(term);
            }
            term += 1;
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_less_than_for_the_ends_and_the_middle() {
        let middle = u64::MAX / 2;
        let ends = [0, 1, 2, middle - 1, middle, middle + 1, u64::MAX - 1, u64::MAX];
        for a in ends {
            for b in ends {
                assert_eq!(below(a, b, 0), (a < b) as u64, "{a} {b}");
                assert_eq!(below(a, b, 1), (a <= b) as u64, "{a} {b}");
            }
        }
    }
}
