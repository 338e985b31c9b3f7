//! Names and layouts shared by the bench and its BPF programs.

/// Destinations in a trace: a power of two, so that the programs can mask.
pub const TRACE_LEN: usize = 1 << 20;

/// The trace of IPv4 destinations: one element of [`TRACE_LEN`] words, see [`entry4`].
pub const DESTINATIONS4: &str = "DESTINATIONS4";
/// The trace of IPv6 destinations: one element of [`TRACE_LEN`] addresses in wire order.
pub const DESTINATIONS6: &str = "DESTINATIONS6";
/// What each destination of the trace was answered with: one element of [`TRACE_LEN`] words.
pub const ANSWERS: &str = "ANSWERS";
/// One element: how many destinations were taken from the trace.
pub const CURSOR: &str = "CURSOR";
/// The IPv4 table as an LPM trie; values are positions in the table.
pub const LPM4: &str = "LPM4";
/// The IPv6 table as an LPM trie.
pub const LPM6: &str = "LPM6";
/// One element: the program that a harness calls.
pub const CANDIDATE: &str = "CANDIDATE";

/// One element: how many frames reached the sink of `pipeline`, and whether it is to note what they carried in
/// [`ANSWERS`].
pub const SUNK: &str = "SUNK";

/// Counters as a plain array, `[cpu][slot]`: for `counters`.
pub const BY_CPU: &str = "BY_CPU";
/// Counters as a per-CPU array.
pub const PER_CPU: &str = "PER_CPU";
/// Slots that the counters of `counters` have room for: a power of two, as many as a leaf can name.
pub const SLOTS: u32 = 1 << 21;

/// Where a slot stands when slots are in no order: a permutation of those below [`SLOTS`].
pub const fn shuffled(slot: u32) -> u32 {
    slot.wrapping_mul(0x9e37_79b1) & (SLOTS - 1)
}

/// The IPv4 trace.
pub type Trace4 = [u64; TRACE_LEN];
/// The IPv6 trace.
pub type Trace6 = [[u64; 2]; TRACE_LEN];
/// The answers.
pub type Answers = [u64; TRACE_LEN];

/// How every MAC address of the bench begins.
pub const BENCH_MAC: [u8; 4] = [0x02, 0, 0, 0];
/// MAC address of the ingress interface: what the harness writes as the frame's destination.
pub const INGRESS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x64, 0x01];
/// MAC address of the sender.
pub const SENDER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x64, 0x02];
/// Source of every IPv4 packet: an ordinary address, so that it has to get through the whole source filter.
pub const SOURCE4: [u8; 4] = [8, 8, 8, 8];
/// Source of every IPv6 packet.
pub const SOURCE6: [u8; 16] = [
    0x20, 0x01, 0x48, 0x60, 0x48, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x88,
];
/// TTL or hop limit of every packet.
pub const TTL: u8 = 64;
/// Protocol of every packet.
pub const UDP: u8 = 17;
/// Octets of every frame.
pub const FRAME: usize = 64;
/// What the empty candidate of `forward` returns: `XDP_TX`, which no other answers.
pub const EMPTY: u32 = 3;

/// A word of the IPv4 trace: the destination (octets in wire order) and the header checksum that goes with it, as the
/// host reads it from the wire.
pub const fn entry4(destination: [u8; 4], checksum: u16) -> u64 {
    u32::from_le_bytes(destination) as u64 | (checksum as u64) << 32
}

/// What `bpf_fib_lookup` answered, as one word: the egress and the end of the neighbour's MAC address.
pub const fn kernel_answer(ifindex: u32, neighbour: [u8; 6]) -> u64 {
    (ifindex as u64) << 32
        | u32::from_le_bytes([neighbour[2], neighbour[3], neighbour[4], neighbour[5]]) as u64
}

/// What our own lookup answered, as one word.
pub const fn our_answer(group: u32, slot: u32) -> u64 {
    (group as u64) << 32 | slot as u64
}

/// What a frame that reached the sink carried, as one word: the last two octets of its MAC addresses as they stand in the
/// frame (before them all are [`BENCH_MAC`]), and its TTL or hop limit.
pub const fn sunk_answer(destination: u16, source: u16, ttl: u8) -> u64 {
    (destination as u64) << 32 | (source as u64) << 16 | ttl as u64
}

/// Stands for "no answer".
pub const NOTHING: u64 = u64::MAX;
