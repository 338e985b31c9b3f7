//! The shape of the real table, and the space that no generated prefix may touch.

/// How many of 968,425 IPv4 prefixes have which length.
pub const LENGTHS_V4: &[(u8, u32)] = &[
    (8, 16),
    (9, 13),
    (10, 38),
    (11, 103),
    (12, 301),
    (13, 602),
    (14, 1_251),
    (15, 2_196),
    (16, 14_061),
    (17, 8_642),
    (18, 14_268),
    (19, 25_568),
    (20, 44_098),
    (21, 53_136),
    (22, 113_728),
    (23, 103_358),
    (24, 587_046),
];

/// How many of 177,846 IPv6 prefixes have which length.
pub const LENGTHS_V6: &[(u8, u32)] = &[
    (19, 1),
    (20, 16),
    (21, 3),
    (22, 7),
    (23, 7),
    (24, 29),
    (25, 9),
    (26, 16),
    (27, 20),
    (28, 199),
    (29, 4_423),
    (30, 828),
    (31, 281),
    (32, 23_046),
    (33, 3_776),
    (34, 3_524),
    (35, 1_427),
    (36, 6_670),
    (37, 991),
    (38, 1_792),
    (39, 1_248),
    (40, 13_572),
    (41, 932),
    (42, 2_450),
    (43, 1_254),
    (44, 16_836),
    (45, 1_701),
    (46, 3_834),
    (47, 3_245),
    (48, 85_709),
];

/// Space that no generated prefix may touch: the bogons, and what the lab itself uses.
pub const RESERVED: &[(&str, u8)] = &[
    ("0.0.0.0", 8),
    ("10.0.0.0", 8),
    ("33.0.0.0", 8), // the lab's carriers and internet hosts
    ("100.64.0.0", 10),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("172.16.0.0", 12),
    ("192.0.0.0", 24),
    ("192.0.2.0", 24),
    ("192.88.99.0", 24),
    ("192.168.0.0", 16),
    ("198.18.0.0", 15),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("224.0.0.0", 3),
    ("2001:db8::", 32),
    ("2a1f::", 16), // the lab's carriers and internet hosts
];

/// The lab's own networks as a file's table may not announce them: a more specific route there would divert its traffic.
pub const LAB: &[(&str, u8)] = &[
    ("33.10.0.0", 16),
    ("33.20.0.0", 16),
    ("33.30.0.0", 16),
    ("192.0.2.0", 24),
    ("203.0.113.0", 24),
    ("2001:db8::", 32),
    ("2a1f::", 16),
];

/// The registries' IPv6 blocks, weighted roughly as they are announced (percent).
pub const BLOCKS_V6: &[(u16, u64)] = &[(0x2400, 32), (0x2600, 34), (0x2800, 7), (0x2a00, 26), (0x2c00, 1)];
